package rabbitmq

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// recover gets the subscription a channel again, after a pause if that has just failed. A nil error means that it is
// worth looking again.
func (s *subscription) recover(ctx context.Context, failed int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.life, cancel)()
	if failed > 0 && !sleep(ctx, s.t.cfg.backoff(failed)) {
		return s.interrupted(ctx)
	}
	err := s.resume(ctx)
	switch {
	case err == nil || errors.Is(err, transport.ErrClosed):
		return err
	case ctx.Err() != nil:
		return s.interrupted(ctx)
	}
	s.mu.Lock()
	s.failed++
	s.mu.Unlock()
	return subscribeError(s.cfg, err)
}

// interrupted tells which of the two ended ctx: the subscription or the caller.
func (s *subscription) interrupted(ctx context.Context) error {
	if s.life.Err() != nil {
		return transport.ErrClosed
	}
	return ctx.Err()
}

// Who comes first in resume.
const (
	working int32 = iota
	handed
	left
)

// resume declares the queue and begins to consume.
func (s *subscription) resume(ctx context.Context) error {
	conn, err := s.link.get(ctx)
	if err != nil {
		return err
	}
	if err := s.t.declareGroup(ctx, conn, s.cfg.Topic, s.cfg.Group); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	s.mu.Lock()
	s.gen++
	gen := s.gen
	s.mu.Unlock()
	var c *consumer
	var state atomic.Int32
	err = conn.await(ctx, func() (err error) {
		c, err = consume(conn, gen, s.t.cfg.Name, s.queue, s.cfg.Prefetch, s.probing(gen))
		if !state.CompareAndSwap(working, handed) && err == nil {
			s.discard(c) // nobody waits any more
		}
		return err
	})
	if err != nil && !state.CompareAndSwap(working, left) && ctx.Err() != nil && c != nil {
		err = nil // it came at the last moment
	}
	if err != nil {
		return err
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.current, s.tags, s.held, s.failed = c, newTags(), 0, 0
	}
	s.mu.Unlock()
	if closed {
		s.discard(c)
		return transport.ErrClosed
	}
	return nil
}

// probing returns what a probation needs to know; nil if a channel begins without. Classic queues count nothing, what is
// fetched one at a time anyway needs none, and with a single active consumer there is no other way to fetch. What an
// earlier subscription of this process gave back has not killed it.
func (s *subscription) probing(gen uint64) *history {
	if gen == 1 && s.history.probed.Load() || s.t.cfg.Queue != Quorum || s.t.cfg.SingleActiveConsumer || s.cfg.Prefetch == 1 {
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
