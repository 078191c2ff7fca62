package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// errNotSent: the session ended before anything of a request was written, so that another may take it.
var errNotSent = errors.New("rabbitmq: not sent")

// pending is a message that was written and waits for its confirm.
type pending struct {
	req     *request
	i       int
	confirm *amqp.DeferredConfirmation
	err     error // instead of confirm: it was not written
}

// session publishes over one connection, on one channel in confirm mode, and ends with it. One goroutine writes, one takes
// the confirms in the order of publishing.
type session struct {
	conn     *connection
	ch       *amqp.Channel
	pipe     chan pending // its capacity is the window
	returns  chan amqp.Return
	returned map[string]int // by returnKey; what came back and whose confirm is still to come
	lost     atomic.Bool
	closes   chan *amqp.Error // has why the broker closed the channel, before the confirms are answered for that reason
	limit    int              // the broker's for a message, if it closed the channel because of one; else 0
	passed   bool             // that message has been answered

	mu    sync.Mutex
	queue []*request
	ended bool
	wake  chan struct{}
}

func newSession(conn *connection, window int) (*session, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Confirm(false); err != nil {
		return nil, fmt.Errorf("confirm mode: %w", err)
	}
	s := &session{
		conn: conn, ch: ch, pipe: make(chan pending, window), returned: map[string]int{}, wake: make(chan struct{}, 1),
		returns: ch.NotifyReturn(make(chan amqp.Return, 64)),
	}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	s.closes = ch.NotifyClose(make(chan *amqp.Error, 1))
	conn.spawn(func() { s.write(closes) })
	conn.spawn(s.confirm)
	return s, nil
}

// publish hands a request over and waits for its answers, or until ctx ends.
func (s *session) publish(ctx context.Context, r *request) error {
	s.mu.Lock()
	if s.ended {
		s.mu.Unlock()
		return errNotSent
	}
	s.queue = append(s.queue, r)
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	select {
	case <-r.done:
	case <-ctx.Done():
		if r.state.CompareAndSwap(queued, abandoned) {
			return ctx.Err() // nothing of it has been written, and nothing will be
		}
		select {
		case <-r.done:
		default:
			return fmt.Errorf("%w: not confirmed yet: %w", transport.ErrOutcomeUnknown, ctx.Err())
		}
	}
	return r.result()
}

// write is the goroutine that writes, until the channel is closed.
func (s *session) write(closes <-chan *amqp.Error) {
	defer close(s.pipe)
	defer s.end()
	for {
		s.mu.Lock()
		batch := s.queue
		s.queue = nil
		s.mu.Unlock()
		if batch == nil {
			select {
			case <-s.wake:
				continue
			case err := <-closes:
				s.fail(err)
				return
			}
		}
		s.conn.sock.cork()
		for _, r := range batch {
			s.waitForBroker() // before it counts as written
			if r.state.CompareAndSwap(queued, writing) {
				s.writeRequest(r)
			}
		}
		s.conn.sock.uncork()
	}
}

// fail closes the connection after the channel was closed by the broker: what it has declared may be gone, too.
func (s *session) fail(err *amqp.Error) {
	if err != nil {
		s.conn.fail(err)
	}
}

// end lets go of the requests that have not been written.
func (s *session) end() {
	s.lost.Store(true)
	s.mu.Lock()
	s.ended = true
	rest := s.queue
	s.queue = nil
	s.mu.Unlock()
	for _, r := range rest {
		if r.state.CompareAndSwap(queued, writing) {
			for i := range r.out {
				r.answer(i, errNotSent)
			}
		}
	}
}

func (s *session) writeRequest(r *request) {
	for i := range r.out {
		s.waitForBroker()
		o := &r.out[i]
		p := pending{req: r, i: i}
		// Mandatory always: only so is it known that a message was dropped.
		p.confirm, p.err = s.ch.PublishWithDeferredConfirm(o.exchange, o.key, true, false, o.msg)
		select {
		case s.pipe <- p:
		default:
			// The window is full. confirm drains it, also once the channel is closed.
			s.conn.sock.uncork()
			s.pipe <- p
			s.conn.sock.cork()
		}
	}
}

// waitForBroker waits while the broker holds publishers up: what was written then would fill buffers and block.
func (s *session) waitForBroker() {
	held := s.conn.held()
	if held == nil {
		return
	}
	s.conn.sock.uncork()
	<-held // closed with the connection as well
	s.conn.sock.cork()
}

// confirm is the goroutine that takes the confirms. It ends after write, with the last message in the pipe.
func (s *session) confirm() {
	returns := s.returns
	for p := range s.pipe {
		if p.err != nil {
			p.req.answer(p.i, s.unwritten(p.err))
			continue
		}
		for waiting := true; waiting; {
			select {
			case <-p.confirm.Done():
				waiting = false
			case r, open := <-returns:
				returns = s.noteReturn(returns, r, open)
			}
		}
		// The broker sends a return before the confirm, so that it is in the channel by now.
		for len(returns) > 0 {
			r, open := <-returns
			returns = s.noteReturn(returns, r, open)
		}
		p.req.answer(p.i, s.outcome(&p.req.out[p.i], p.confirm))
	}
}

func (s *session) noteReturn(returns chan amqp.Return, r amqp.Return, open bool) chan amqp.Return {
	if !open {
		return nil
	}
	s.returned[returnKey(r.Exchange, r.RoutingKey, r.MessageId)]++
	return returns
}

func returnKey(exchange, key, id string) string { return exchange + "\x00" + key + "\x00" + id }

// unwritten tells what a failed write means: amqp091-go reports ErrClosed if it has not begun.
func (s *session) unwritten(err error) error {
	if errors.Is(err, amqp.ErrClosed) {
		return errNotSent
	}
	return fmt.Errorf("%w: %w", transport.ErrOutcomeUnknown, err)
}

func (s *session) outcome(o *outgoing, confirm *amqp.DeferredConfirmation) error {
	if len(s.returned) > 0 {
		key := returnKey(o.exchange, o.key, o.msg.MessageId)
		if n := s.returned[key]; n > 0 {
			if delete(s.returned, key); n > 1 {
				s.returned[key] = n - 1
			}
			return ErrUnroutable
		}
	}
	switch {
	case confirm.Acked():
		return nil
	case s.passed:
		return errNotSent // the broker has read no further
	case s.ch.IsClosed():
		// amqp091-go answers what is open with a nack when the channel closes.
		return s.closed(len(o.msg.Body))
	}
	return ErrNacked
}

// closed tells what the end of the channel means for a message of that size without a confirm.
func (s *session) closed(size int) error {
	select {
	case err := <-s.closes: // nil later
		s.limit = max(s.limit, sizeLimit(err))
	default:
	}
	if s.limit > 0 && size > s.limit {
		s.passed = true
		return fmt.Errorf("%w: %d bytes, the broker takes %d", transport.ErrTooLarge, size, s.limit)
	}
	return fmt.Errorf("%w: connection lost before the confirm: %w", transport.ErrOutcomeUnknown, s.conn.reason())
}
