package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

// maxHandovers is how often Publish looks for another session after one ended before it took the messages.
const maxHandovers = 5

// Publish implements transport.Transport. Errors beside those of package transport: [ErrUnroutable], [ErrNacked] and
// [ErrMismatch].
func (t *Transport) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b := batch{t: t, topic: topic, msgs: msgs}
	switch err := transport.CheckBatch(t.caps, topic, msgs).(type) {
	case nil:
	case *transport.PublishError:
		b.errs = err.Errs
	default:
		return err
	}
	for handovers := 0; ; handovers++ {
		conn, err := t.publishing.get(ctx)
		if err != nil {
			return publishError(topic, err)
		}
		err = b.publish(ctx, conn)
		if err == nil {
			return b.result()
		}
		if err != errNotSent || handovers == maxHandovers {
			return publishError(topic, err)
		}
		select {
		case <-conn.done: // it is about to be replaced
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func publishError(topic string, err error) error {
	if errors.Is(err, transport.ErrClosed) {
		return transport.ErrClosed
	}
	return fmt.Errorf("rabbitmq: publish %q: %w", topic, err)
}

// batch is one call of Publish.
type batch struct {
	t     *Transport
	topic string
	msgs  []transport.Message
	errs  []error // per message; nil until one fails
	index []int   // the place in msgs of each message of the request; nil if they are the same
}

func (b *batch) fail(i int, err error) {
	if b.errs == nil {
		b.errs = make([]error, len(b.msgs))
	}
	b.errs[i] = err
}

func (b *batch) result() error {
	failed := false
	for _, err := range b.errs {
		failed = failed || err != nil
	}
	switch {
	case !failed:
		return nil
	case len(b.msgs) == 1:
		return publishError(b.topic, b.errs[0])
	}
	return &transport.PublishError{Errs: b.errs}
}

// publish sends what has not failed yet. It returns errNotSent if nothing was sent, and other errors that speak for the
// whole batch; those of single messages go to errs.
func (b *batch) publish(ctx context.Context, conn *connection) error {
	if err := b.t.ensureTopic(ctx, conn, b.topic); err != nil {
		if conn.ended() {
			return errNotSent
		}
		return err
	}
	out := make([]outgoing, 0, len(b.msgs))
	b.index = make([]int, 0, len(b.msgs))
	for i := range b.msgs {
		if b.errs != nil && b.errs[i] != nil {
			continue
		}
		o, err := b.outgoing(ctx, conn, &b.msgs[i])
		switch {
		case err == nil:
			out = append(out, o)
			b.index = append(b.index, i)
		case conn.ended() || ctx.Err() != nil:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			return errNotSent
		case errors.Is(err, ErrUnroutable) && !b.t.cfg.Mandatory:
			b.t.noteUnroutable(b.topic, 1)
		default:
			b.fail(i, err)
		}
	}
	if len(out) == 0 {
		return nil
	}
	err := b.t.sessionOf(conn).publish(ctx, newRequest(out))
	if failed, ok := err.(*transport.PublishError); ok {
		b.take(failed.Errs)
		return nil
	}
	return err
}

// take files the answers to single messages.
func (b *batch) take(errs []error) {
	dropped := 0
	for j, err := range errs {
		i := b.index[j]
		switch {
		case err == nil:
		case err == ErrUnroutable && !b.t.cfg.Mandatory:
			dropped++
		case err == ErrUnroutable && b.msgs[i].TargetGroup != "":
			b.fail(i, fmt.Errorf("%w: group %q has no queue on topic %q", err, b.msgs[i].TargetGroup, b.topic))
		case err == ErrUnroutable:
			b.fail(i, fmt.Errorf("%w: no group has joined topic %q", err, b.topic))
		default:
			b.fail(i, err)
		}
	}
	if dropped > 0 {
		b.t.noteUnroutable(b.topic, dropped)
	}
}

// outgoing encodes m and finds its way.
func (b *batch) outgoing(ctx context.Context, conn *connection, m *transport.Message) (outgoing, error) {
	msg, err := encode(m, conn.Config.FrameSize)
	if err != nil {
		return outgoing{}, err
	}
	o := outgoing{msg: msg}
	wait := time.Duration(0)
	if !m.NotBefore.IsZero() {
		wait = time.Until(m.NotBefore)
	}
	switch {
	case wait > 0:
		o.exchange, o.key, err = routeDelayed(ctx, conn, wait, b.topic, m.TargetGroup)
	case m.TargetGroup != "":
		o.key = queueName(b.topic, m.TargetGroup) // through the default exchange
	default:
		o.exchange = exchangeName(b.topic)
	}
	return o, err
}

// sessionOf returns the session of a connection that came from the link.
func (t *Transport) sessionOf(conn *connection) *session {
	if s := t.session.Load(); s.conn == conn {
		return s
	}
	return &session{ended: true} // another connection has taken over
}
