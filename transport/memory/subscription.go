package memory

import (
	"context"
	"runtime"
	"slices"

	"github.com/postbus/postbus/transport"
)

// spins is how often Receive yields and looks again before it parks: waking a parked goroutine costs the publisher
// more than the message itself.
const spins = 32

// lull is how often Receive yields before it fetches, while messages come faster than it parks but slower than it takes
// them: a batch of a few costs the publishers more, for the lock and its cache lines, than a batch of many.
const lull = 8

// subscription is one consumer of a queue. Its fields but wake and done are guarded by the queue's lock.
type subscription struct {
	q        *queue
	prefetch int
	lazy     bool
	waiting  bool // parked, or about to: a message must be announced on wake
	closed   bool
	ahead    bool // of the publishers: the last batch was small; used by Receive alone
	wake     chan struct{}
	done     chan struct{}
}

func (q *queue) join(prefetch int, lazy bool) *subscription {
	s := &subscription{q: q, prefetch: prefetch, lazy: lazy, wake: make(chan struct{}, 1), done: make(chan struct{})}
	q.lock()
	q.subs = append(q.subs, s)
	q.mu.Unlock()
	return s
}

func (s *subscription) wakeUp() {
	if s == nil {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default: // it has yet to look
	}
}

// Receive implements transport.Subscription.
func (s *subscription) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	q := s.q
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		for spin := 0; spin < spins && !q.filled.Load(); spin++ {
			runtime.Gosched()
		}
		if s.ahead {
			for range lull {
				runtime.Gosched()
			}
		}
		q.lock()
		if s.closed {
			q.mu.Unlock()
			return nil, transport.ErrClosed
		}
		if q.subs[0] == s {
			if out := q.fetch(s, max); out != nil {
				q.mu.Unlock()
				s.ahead = len(out) < chunkSize/4
				return out, nil
			}
		}
		s.waiting, s.ahead = true, false
		q.mu.Unlock()
		select {
		case <-s.wake:
		case <-s.done:
		case <-ctx.Done():
		}
	}
}

// Settle implements transport.Subscription.
func (s *subscription) Settle(_ context.Context, settlements []transport.Settlement) error {
	q := s.q
	q.lock()
	if s.closed {
		q.mu.Unlock()
		return transport.ErrClosed
	}
	if q.subs[0] == s { // another one has no deliveries, and its tags are none
		for _, settlement := range settlements {
			q.settle(settlement.Tag, settlement.Outcome)
		}
	}
	wake := q.toWake()
	empty := q.empty()
	q.mu.Unlock()
	wake.wakeUp()
	if empty {
		q.t.notifyIdle()
	}
	return nil
}

// Close implements transport.Subscription.
func (s *subscription) Close() error {
	q := s.q
	q.lock()
	if s.closed {
		q.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	if q.subs[0] == s { // only the active one has deliveries
		for _, tag := range q.delivered.tags() {
			q.settle(tag, transport.Release)
		}
	}
	q.subs = slices.DeleteFunc(q.subs, func(other *subscription) bool { return other == s })
	wake := q.toWake()
	q.mu.Unlock()
	wake.wakeUp()
	return nil
}
