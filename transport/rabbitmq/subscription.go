package rabbitmq

import (
	"context"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// subscription is one consumer of a group's queue.
type subscription struct {
	t       *Transport
	link    *link
	cfg     transport.SubscribeConfig
	queue   string
	history *history
	life    context.Context // of the subscription itself; it ends with Close
	end     context.CancelFunc

	writing sync.Mutex // held while settlements are written, for their order; taken before mu
	mu      sync.Mutex
	closed  bool
	current *consumer // nil while there is none
	gen     uint64
	tags    tags
	failed  int // attempts to resume that failed in a row
}

func newSubscription(t *Transport, l *link, cfg transport.SubscribeConfig) *subscription {
	queue := queueName(cfg.Topic, cfg.Group)
	s := &subscription{t: t, link: l, cfg: cfg, queue: queue, history: t.historyOf(queue)}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Receive implements transport.Subscription.
func (s *subscription) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		c, closed, failed := s.current, s.closed, s.failed
		s.mu.Unlock()
		if closed {
			return nil, transport.ErrClosed
		}
		if c == nil {
			if err := s.recover(ctx, failed); err != nil {
				return nil, err
			}
			continue
		}
		fetched, over := c.take(max)
		if over != nil {
			s.lose(c, over)
			continue
		}
		if len(fetched) > 0 {
			if out := s.deliver(c, fetched); out != nil {
				return out, nil
			}
			continue
		}
		select {
		case <-c.ready:
		case <-s.life.Done():
		case <-ctx.Done():
		}
	}
}

// deliver registers what was fetched; nil if the channel was replaced meanwhile.
func (s *subscription) deliver(c *consumer, fetched []amqp.Delivery) []transport.Delivery {
	out := make([]transport.Delivery, len(fetched))
	entries := make([]tagEntry, len(fetched))
	for i := range fetched {
		d := &fetched[i]
		m, before := decode(d)
		n := s.history.attempt(m.ID, before)
		entries[i] = tagEntry{id: m.ID, attempt: n}
		out[i] = transport.Delivery{Message: m, Tag: c.gen<<tagBits | d.DeliveryTag, Attempt: m.Attempts + int(n)}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != c {
		return nil
	}
	for i := range entries {
		s.tags.delivered(fetched[i].DeliveryTag, entries[i])
	}
	return out
}

// Settle implements transport.Subscription.
func (s *subscription) Settle(_ context.Context, settlements []transport.Settlement) error {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return transport.ErrClosed
	}
	c := s.current
	if c == nil {
		s.mu.Unlock()
		return nil // the tags went with their channel
	}
	named := make([]uint64, 0, len(settlements))
	var requeues []uint64
	for _, to := range settlements {
		tag := to.Tag & (1<<tagBits - 1)
		if to.Tag>>tagBits != c.gen {
			continue
		}
		e := s.tags.open(tag)
		if e == nil {
			continue
		}
		switch to.Outcome {
		case transport.Ack:
			e.state = acked
			named = append(named, tag)
			s.history.acked(e.id)
			continue
		case transport.Release:
			s.history.released(e.id, e.attempt)
		default:
			s.history.requeued(e.id, e.attempt)
		}
		e.state = settled
		requeues = append(requeues, tag)
	}
	acks := s.tags.flush(named)
	s.mu.Unlock()
	// A quorum queue brings them again in this order.
	slices.Sort(requeues)
	c.settle(acks, requeues)
	return nil
}

// Close implements transport.Subscription. It waits for the broker, a second at most.
func (s *subscription) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	c := s.current
	s.current = nil
	s.end()
	if c != nil {
		for n := s.tags.first; n < s.tags.next; n++ {
			if e := s.tags.open(n); e != nil {
				s.history.released(e.id, e.attempt)
			}
		}
		s.releaseUnreceived(c)
	}
	s.mu.Unlock()
	if c != nil {
		c.close()
	}
	s.t.mu.Lock()
	delete(s.t.subs, s)
	s.t.mu.Unlock()
	return nil
}

// releaseUnreceived notes that what was fetched and not received was not tried.
func (s *subscription) releaseUnreceived(c *consumer) {
	for _, d := range c.rest() {
		m, before := decode(&d)
		s.history.released(m.ID, s.history.attempt(m.ID, before))
	}
}
