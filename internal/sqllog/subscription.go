package sqllog

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"sync"

	"github.com/postbus/postbus/transport"
)

// partShift is where a tag has its partition.
const partShift = 48

// MaxPartitions is how many partitions a tag can name.
const MaxPartitions = 1024

// Subscription is one consumer's end of a group; it holds the leases of some of the group's partitions.
type Subscription struct {
	l        *Log
	t        *Topic
	group    string
	prefetch int
	owner    string

	wake   chan struct{} // Receive looks again
	ended  chan struct{} // a consumer has ended
	done   chan struct{} // closed by Close
	once   sync.Once
	wg     sync.WaitGroup
	ctx    context.Context // ends with Close
	cancel context.CancelFunc

	mu        sync.Mutex
	closed    bool
	consumers []*consumer
	next      int // where Receive begins, for fairness
	handed    int
	trouble   error // to be told by Receive
}

// Subscribe joins a group.
func (l *Log) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (*Subscription, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if cfg.Prefetch == 0 {
		cfg.Prefetch = transport.DefaultPrefetch
	}
	t, err := l.topic(ctx, cfg.Topic)
	if err == nil {
		err = l.join(ctx, t, &cfg)
	}
	if err == transport.ErrClosed {
		return nil, err
	}
	if err != nil {
		return nil, l.errorf("subscribe %q to %q: %w", cfg.Group, cfg.Topic, err)
	}
	s := &Subscription{
		l: l, t: t, group: cfg.Group, prefetch: cfg.Prefetch, owner: ownerName(),
		wake: make(chan struct{}, 1), ended: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for part := range l.cfg.Partitions {
		s.consumers = append(s.consumers, newConsumer(s, part))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		s.cancel()
		return nil, transport.ErrClosed
	}
	l.subs[s] = struct{}{}
	if !l.hears { // who only publishes need not
		l.hears = true
		l.wg.Go(l.listen)
	}
	s.wg.Go(s.share)
	return s, nil
}

// ownerName tells an operator who holds a lease, and differs for each subscription.
func ownerName() string {
	host, err := os.Hostname()
	if err != nil || len(host) > 100 {
		host = "host"
	}
	return fmt.Sprintf("%s/%d/%s", host, os.Getpid(), rand.Text()[:12])
}

// Owner is the name by which the status knows this subscription.
func (s *Subscription) Owner() string { return s.owner }

// Receive gives out deliveries.
func (s *Subscription) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		if s.closed {
			s.mu.Unlock()
			return nil, transport.ErrClosed
		}
		if out := s.hand(max); len(out) > 0 {
			s.mu.Unlock()
			return out, nil
		}
		err := s.trouble
		s.trouble = nil
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		select {
		case <-s.wake:
		case <-s.done:
		case <-ctx.Done():
		}
	}
}

func (s *Subscription) hand(max int) []transport.Delivery {
	var out []transport.Delivery
	for range s.consumers {
		c := s.consumers[s.next]
		if c.w != nil && c.sheds.IsZero() {
			got := c.w.hand(min(max-len(out), s.prefetch-s.handed))
			for i := range got {
				got[i].Tag |= uint64(c.part) << partShift
			}
			s.handed += len(got)
			if len(got) > 0 && c.w.wantsMark() {
				poke(c.kick)
			}
			if out == nil {
				out = got
			} else {
				out = append(out, got...)
			}
			if len(out) == max || s.handed == s.prefetch {
				return out
			}
		}
		s.next = (s.next + 1) % len(s.consumers)
	}
	return out
}

// report has Receive tell its caller.
func (s *Subscription) report(err error) {
	s.mu.Lock()
	s.trouble = s.l.errorf("receive %q of %q: %w", s.group, s.t.Name, err)
	s.mu.Unlock()
	poke(s.wake)
}

// Settle ends deliveries. It returns when the database has it.
func (s *Subscription) Settle(ctx context.Context, settlements []transport.Settlement) error {
	var waits []chan error
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return transport.ErrClosed
	}
	for _, x := range settlements {
		part := x.Tag >> partShift
		if part >= uint64(len(s.consumers)) {
			continue
		}
		c := s.consumers[part]
		if c.w != nil && c.w.settle(x.Tag&(1<<partShift-1), x.Outcome) {
			s.handed--
			c.dirty++
		}
	}
	for _, c := range s.consumers {
		if c.w != nil && c.dirty > c.saved {
			wait := make(chan error, 1)
			c.waiters = append(c.waiters, waiter{c.dirty, wait})
			waits = append(waits, wait)
			poke(c.kick)
		}
	}
	s.mu.Unlock()
	poke(s.wake)
	var first error
	for _, wait := range waits {
		select {
		case err := <-wait:
			if err != nil && first == nil {
				first = s.l.errorf("settle %q of %q: %w", s.group, s.t.Name, err)
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return first
}

// Close gives back what is unsettled, and the leases.
func (s *Subscription) Close() error {
	s.once.Do(func() {
		s.mu.Lock()
		s.closed = true
		s.mu.Unlock()
		close(s.done)
		s.cancel()
		s.wg.Wait()
		s.l.mu.Lock()
		delete(s.l.subs, s)
		s.l.mu.Unlock()
		if !s.l.isClosed() {
			s.l.wake(leaseText(s.t.Name)) // who stands by can take over
		}
	})
	s.wg.Wait()
	return nil
}
