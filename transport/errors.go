package transport

import (
	"errors"
	"fmt"
)

// Errors that drivers return, to be matched with errors.Is.
var (
	// ErrClosed: the transport or the subscription has been closed.
	ErrClosed = errors.New("transport: closed")
	// ErrInvalid: the message or the configuration cannot be carried by any transport.
	ErrInvalid = errors.New("transport: invalid")
	// ErrUnsupported: this transport cannot do what the message asks for; its Capabilities say so.
	ErrUnsupported = errors.New("transport: unsupported")
	// ErrTooLarge: the payload is larger than Capabilities.MaxPayload.
	ErrTooLarge = errors.New("transport: payload too large")
	// ErrNoTopic: nobody has published to the topic or joined it.
	ErrNoTopic = errors.New("transport: no such topic")
	// ErrOutcomeUnknown: the connection was lost before the far side answered; the messages may have been published.
	// Publishing them again can make duplicates, with equal IDs.
	ErrOutcomeUnknown = errors.New("transport: outcome unknown")
)

func invalidf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// PublishError reports that some messages of a batch failed.
type PublishError struct {
	// Errs has an entry for each message of the batch, in its order; nil where the message is safe.
	Errs []error
}

// Error names how many failed, and the first cause.
func (e *PublishError) Error() string {
	failed, first := 0, error(nil)
	for _, err := range e.Errs {
		if err != nil {
			if failed++; first == nil {
				first = err
			}
		}
	}
	return fmt.Sprintf("%d of %d messages were not published: %v", failed, len(e.Errs), first)
}

// Unwrap returns the causes, for errors.Is and errors.As.
func (e *PublishError) Unwrap() []error {
	var errs []error
	for _, err := range e.Errs {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// CheckBatch applies [Message.Check], and the limits of c, to each message. It returns nil, an error that stands for
// every message, or a [*PublishError]. Drivers call it at the start of Publish, and publish what is good.
func CheckBatch(c Capabilities, topic string, msgs []Message) error {
	if err := CheckName("topic", topic); err != nil {
		return err
	}
	var errs []error
	for i := range msgs {
		if err := check(c, &msgs[i]); err != nil {
			if len(msgs) == 1 {
				return err
			}
			if errs == nil {
				errs = make([]error, len(msgs))
			}
			errs[i] = err
		}
	}
	if errs == nil {
		return nil
	}
	return &PublishError{Errs: errs}
}

func check(c Capabilities, m *Message) error {
	if err := m.Check(); err != nil {
		return err
	}
	switch {
	case c.MaxPayload > 0 && len(m.Payload) > c.MaxPayload:
		return fmt.Errorf("%w: message %q has %d bytes, %d are allowed", ErrTooLarge, m.ID, len(m.Payload), c.MaxPayload)
	case m.TargetGroup != "" && !c.Target:
		return fmt.Errorf("%w: message %q is for group %q alone, and this transport lacks the capability Target", ErrUnsupported, m.ID, m.TargetGroup)
	case !m.NotBefore.IsZero() && !c.Delay:
		return fmt.Errorf("%w: message %q is for later, and this transport lacks the capability Delay", ErrUnsupported, m.ID)
	}
	return nil
}
