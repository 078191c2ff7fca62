package rabbitmq

import (
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// outgoing is one message on its way to an exchange.
type outgoing struct {
	exchange, key string
	msg           amqp.Publishing
}

// States of a request.
const (
	queued int32 = iota
	writing
	abandoned
)

// request is the messages of one call of Publish. The session owns it from enqueue until done is closed.
type request struct {
	out   []outgoing
	errs  []error // per message; nil until one fails
	left  int     // messages without an answer
	state atomic.Int32
	done  chan struct{}
}

func newRequest(out []outgoing) *request {
	return &request{out: out, left: len(out), done: make(chan struct{})}
}

// answer ends message i of the request.
func (r *request) answer(i int, err error) {
	if err != nil {
		if r.errs == nil {
			r.errs = make([]error, len(r.out))
		}
		r.errs[i] = err
	}
	if r.left--; r.left == 0 {
		close(r.done)
	}
}

// result is called after done. It returns errNotSent if that is true of all messages.
func (r *request) result() error {
	if r.errs == nil {
		return nil
	}
	failed, unsent := 0, 0
	for _, err := range r.errs {
		if err != nil {
			failed++
		}
		if err == errNotSent {
			unsent++
		}
	}
	if unsent == len(r.errs) {
		return errNotSent
	}
	return &transport.PublishError{Errs: r.errs}
}
