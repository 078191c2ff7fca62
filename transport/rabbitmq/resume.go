package rabbitmq

import (
	"context"
	"errors"
	"log/slog"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// An opening gets a subscription its next channel. It is the subscription's own and not that of the Receive that began it:
// a channel that opens just when nobody waits any more has messages already, which would have to go back, and be counted.
type opening struct {
	done chan struct{}
	err  error // valid once done is closed
}

// recover waits until the subscription has a channel again. A nil error means that it is worth looking again.
func (s *subscription) recover(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return transport.ErrClosed
	}
	o := s.opening
	if o == nil && s.current == nil {
		o = &opening{done: make(chan struct{})}
		s.opening = o
		go s.open(o, s.failed)
	}
	s.mu.Unlock()
	if o == nil {
		return nil
	}
	select {
	case <-o.done:
		return o.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// open runs an opening, after a pause if the one before has just failed. It ends with the subscription, which waits for it.
func (s *subscription) open(o *opening, failed int) {
	defer close(o.done)
	if failed > 0 {
		sleep(s.life, s.t.cfg.backoff(failed))
	}
	err := s.resume(s.life)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = nil
	switch {
	case s.closed:
		o.err = transport.ErrClosed
	case err != nil:
		s.failed++
		o.err = subscribeError(s.cfg, err)
	}
}

// resume declares the queue and begins to consume.
func (s *subscription) resume(ctx context.Context) error {
	conn, err := s.link.get(ctx)
	if err != nil {
		return err
	}
	if err := s.t.declareGroup(ctx, conn, s.cfg.Topic, s.cfg.Group); err != nil {
		return err
	}
	return conn.await(ctx, func() error {
		c, err := consume(conn, s.t.cfg.Name, s.queue, s.cfg.Prefetch, s.probing())
		if err == nil && !s.adopt(c) {
			s.discard(c)
			err = transport.ErrClosed
		}
		return err
	})
}

// adopt makes a channel the current one, unless the subscription has been closed meanwhile.
func (s *subscription) adopt(c *consumer) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.gen++
	c.gen = s.gen
	s.current, s.tags, s.held, s.failed = c, newTags(), 0, 0
	return true
}

// probing returns what a probation needs to know; nil if a channel begins without. Classic queues count nothing, what is
// fetched one at a time anyway needs none, and with a single active consumer there is no other way to fetch. What an
// earlier subscription of this process gave back has not killed it.
func (s *subscription) probing() *history {
	s.mu.Lock()
	first := s.gen == 0
	s.mu.Unlock()
	if first && s.history.probed.Load() || s.t.cfg.Queue != Quorum || s.t.cfg.SingleActiveConsumer || s.cfg.Prefetch == 1 {
		return nil
	}
	return s.history
}

// discard ends a channel that was never the current one. What it has fetched was no attempt.
func (s *subscription) discard(c *consumer) {
	s.notTried(c.buffer.end(transport.ErrClosed))
	c.close()
}

// lose ends a generation: its tags are not valid any more.
func (s *subscription) lose(c *consumer, why error) {
	s.mu.Lock()
	if s.current != c {
		s.mu.Unlock()
		return
	}
	s.current = nil
	s.forgetDeliveries(c, false)
	s.mu.Unlock()
	if c.conn.ended() || errors.Is(why, amqp.ErrClosed) {
		return // the link logs it, once for all
	}
	s.t.cfg.Logger.Warn("rabbitmq: subscription lost its channel, and resumes",
		slog.String("topic", s.cfg.Topic), slog.String("group", s.cfg.Group), slog.Any("error", why))
	c.close()
}
