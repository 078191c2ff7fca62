package rabbitmq

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	amqp "github.com/rabbitmq/amqp091-go"
)

// Errors of this package, to be matched with errors.Is.
var (
	// ErrUnroutable: the message reached no queue: no group has joined the topic, or the one group that it is for has
	// not. It is not kept anywhere.
	ErrUnroutable = errors.New("rabbitmq: message reached no queue")
	// ErrMismatch: a queue or an exchange exists with other properties than those asked for.
	ErrMismatch = errors.New("rabbitmq: exists with other properties")
	// ErrNacked: the broker refused the message; it says no more. A full queue that rejects publishing does it, and a
	// queue that fails.
	ErrNacked = errors.New("rabbitmq: message refused by the broker")
)

// isCode reports whether err is the broker's answer with that code.
func isCode(err error, code int) bool {
	var answer *amqp.Error
	return errors.As(err, &answer) && answer.Code == code
}

var oversized = regexp.MustCompile(`message size \d+ is larger than configured max size (\d+)`)

// sizeLimit returns the broker's limit of a message, if err says that one was larger; else 0.
func sizeLimit(err *amqp.Error) int {
	if err == nil || err.Code != amqp.PreconditionFailed {
		return 0
	}
	limit := 0
	if m := oversized.FindStringSubmatch(err.Reason); m != nil {
		limit, _ = strconv.Atoi(m[1])
	}
	return limit
}

var inequivalent = regexp.MustCompile(`inequivalent arg '([^']*)' for (queue|exchange) '.*' in vhost '.*': received (.*?) but current is (.*)`)
var termValue = regexp.MustCompile(`^the value '(.*)' of type '[^']*'$`)

// explain turns the refusal of a declaration into words about the difference.
func explain(err error, what, name string) error {
	var answer *amqp.Error
	if !errors.As(err, &answer) || answer.Code != amqp.PreconditionFailed {
		return fmt.Errorf("declare %s %q: %w", what, name, err)
	}
	found := inequivalent.FindStringSubmatch(answer.Reason)
	if found == nil {
		return fmt.Errorf("%w: %s %q: %w", ErrMismatch, what, name, err)
	}
	property, ours, theirs := found[1], plainValue(found[3]), plainValue(found[4])
	hint := "delete it, once it is empty, or open the transport with the same setting"
	switch {
	case property == "x-queue-type" || property == "type" && what == "queue":
		property = "queue type"
		switch {
		case theirs == "none":
			theirs, hint = string(Classic), "open the transport with ?queue=classic to join it, or delete it once it is empty"
		case ours == "none":
			ours = string(Classic)
		}
		if theirs == string(Classic) || theirs == string(Quorum) {
			hint = "open the transport with ?queue=" + theirs + " to join it, or delete it once it is empty"
		}
	case property == "x-delivery-limit":
		hint = "with a limit in reach the broker drops messages before they can be quarantined: delete the queue, once it is empty"
	case property == "x-single-active-consumer":
		hint = "open the transport with ?single-active-consumer=" + map[bool]string{true: "true", false: "false"}[theirs == "true"] +
			" to join it, or delete it once it is empty"
	}
	return fmt.Errorf("%w: %s %q: %s is %s there and %s here; %s", ErrMismatch, what, name, property, theirs, ours, hint)
}

func plainValue(text string) string {
	text = strings.TrimSpace(text)
	if m := termValue.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return strings.Trim(text, "'")
}
