package bustest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/postbus/postbus/transport"
)

// errKilled is what a process that was killed gets from its transport.
var errKilled = fmt.Errorf("bustest: the adversary has killed this process: %w", transport.ErrClosed)

// process is the transport of one process, from its start to its crash. What it holds of the broker ends with it.
type process struct {
	b      *broker
	dead   bool // killed; it does not reach the broker any more
	closed bool
	subs   []*brokerSub
	step   *step // under way, or the last one; nil before the first
}

var _ transport.Transport = (*process)(nil)

// Capabilities implements transport.Transport.
func (p *process) Capabilities() transport.Capabilities { return capabilities }

// Publish implements transport.Transport. A topic without groups takes messages and forgets them.
func (p *process) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	b := p.b
	b.mu.Lock()
	var current *step // that this Publish belongs to, if any
	if transport.WithinHandler(ctx) {
		current = p.step
	}
	switch {
	case p.dead:
		b.mu.Unlock()
		return current.die()
	case p.closed:
		b.mu.Unlock()
		return transport.ErrClosed
	}
	failed := transport.CheckBatch(capabilities, topic, msgs)
	good := msgs
	if failed != nil {
		var partial *transport.PublishError
		if !errors.As(failed, &partial) {
			b.mu.Unlock()
			return failed
		}
		good = nil
		for i, err := range partial.Errs {
			if err == nil {
				good = append(good, msgs[i])
			}
		}
	}
	if current.at(beforePublish) {
		p.crash()
		b.mu.Unlock()
		return current.die()
	}
	b.store(topic, good)
	if current.at(afterPublish) {
		p.crash()
		b.mu.Unlock()
		return current.die()
	}
	b.mu.Unlock()
	return failed
}

// crash ends the process, on the far side for now. It is called with the lock.
func (p *process) crash() {
	p.dead = true
	p.step.crashed = true
	p.b.signal()
}

// die makes a Publish of a dead process the last thing that its handler does: nothing after it runs but deferred calls.
// If it was called on another goroutine than the handler's, which might be waited for, it returns an error instead.
func (s *step) die() error {
	if s == nil || s.handler == nil {
		return errKilled
	}
	<-s.handler.Done()
	if goroutineID() == s.goroutine {
		runtime.Goexit()
	}
	return errKilled
}

// goroutineID returns the number of this goroutine, as stack traces show it.
func goroutineID() string {
	var stack [40]byte
	fields := bytes.Fields(stack[:runtime.Stack(stack[:], false)])
	return string(fields[1])
}

// Subscribe implements transport.Transport. A group has one active subscription per topic; further ones stand by.
func (p *process) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b := p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case p.dead:
		return nil, errKilled
	case p.closed:
		return nil, transport.ErrClosed
	}
	queues := b.topics[cfg.Topic]
	i := slices.IndexFunc(queues, func(q *brokerQueue) bool { return q.group == cfg.Group })
	if i < 0 {
		i = len(queues)
		queues = append(queues, &brokerQueue{topic: cfg.Topic, group: cfg.Group})
		b.topics[cfg.Topic] = queues
	}
	if cfg.Prefetch == 0 {
		cfg.Prefetch = transport.DefaultPrefetch
	}
	s := &brokerSub{
		p: p, q: queues[i], prefetch: cfg.Prefetch, wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.q.subs = append(s.q.subs, s)
	p.subs = append(p.subs, s)
	return s, nil
}

// Close implements transport.Transport.
func (p *process) Close() error {
	p.b.mu.Lock()
	p.closed = true
	subs := p.subs
	p.b.mu.Unlock()
	for _, s := range subs {
		_ = s.Close()
	}
	return nil
}

// brokerSub is a subscription of a process.
type brokerSub struct {
	p    *process
	q    *brokerQueue
	wake chan struct{}
	done chan struct{}

	prefetch, unsettled int
	closed              bool
}

func (s *brokerSub) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Receive implements transport.Subscription.
func (s *brokerSub) Receive(ctx context.Context, most int) ([]transport.Delivery, error) {
	b := s.p.b
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.mu.Lock()
		if s.closed {
			b.mu.Unlock()
			return nil, transport.ErrClosed
		}
		var out []transport.Delivery
		var due <-chan time.Time
		if !s.p.dead {
			if !b.scripted {
				if next := b.ripen(s.q, time.Now()); !next.IsZero() {
					due = time.After(time.Until(next))
				}
			}
			out = b.take(s, most)
		}
		b.mu.Unlock()
		if len(out) > 0 {
			return out, nil
		}
		select {
		case <-s.wake:
		case <-due:
		case <-s.done:
		case <-ctx.Done():
		}
	}
}

// Settle implements transport.Subscription.
func (s *brokerSub) Settle(_ context.Context, settlements []transport.Settlement) error {
	b := s.p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	current := s.p.step
	switch {
	case s.p.dead:
		return errKilled
	case s.closed:
		return transport.ErrClosed
	case current.at(beforeSettle):
		s.p.crash()
		return errKilled
	}
	for _, settlement := range settlements {
		b.settle(s, settlement.Tag, settlement.Outcome)
	}
	if current.at(afterSettle) {
		s.p.crash()
		return errKilled // or a group at most once would handle what it has acknowledged
	}
	if current != nil && !current.atMostOnce {
		current.finish()
		b.signal()
	}
	s.q.announce()
	return nil
}

// Close implements transport.Subscription.
func (s *brokerSub) Close() error {
	b := s.p.b
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.done)
	if s.p.dead {
		return nil
	}
	for _, it := range s.q.items {
		if it.state == given && it.holder == s {
			it.state = waiting
			it.deliveries--
		}
	}
	s.q.subs = slices.DeleteFunc(s.q.subs, func(other *brokerSub) bool { return other == s })
	s.q.announce()
	return nil
}
