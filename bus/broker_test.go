package bus_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// broker is a transport whose messages and settlements are under way for a while, for interleavings that the memory
// transport does not have. It has one queue for each topic, whatever the group. Its zero value is ready.
type broker struct {
	caps transport.Capabilities
	// Transit times: between asking and fetching, fetching and returning, sending settlements and their effect, and
	// the effect and the return. Nil is none.
	ask, answer, send, confirm func() time.Duration
	// Faults, before the effect; lost is one after it. Nil is none.
	subscribe func(ctx context.Context, cfg transport.SubscribeConfig) error
	receive   func() error
	settle    func(ctx context.Context, settlements []transport.Settlement) error
	lost      func() error
	publish   func(topic string, msgs []transport.Message) error

	mu        sync.Mutex
	waiting   []transport.Delivery // by place
	delivered map[uint64]transport.Delivery
	where     map[string]int    // place of a message, by ID
	topics    map[string]string // by ID
	tag       uint64
	changed   chan struct{}
	subs      []*brokerSub
	acked     []string
	settled   []transport.Settlement
}

func (b *broker) init() {
	if b.where == nil {
		b.where, b.topics, b.delivered = map[string]int{}, map[string]string{}, map[uint64]transport.Delivery{}
		b.changed = make(chan struct{})
	}
}

func (b *broker) notify() {
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *broker) Capabilities() transport.Capabilities { return b.caps }
func (b *broker) Close() error                         { return nil }

func (b *broker) Publish(_ context.Context, topic string, msgs []transport.Message) error {
	if err := transport.CheckBatch(b.caps, topic, msgs); err != nil {
		return err
	}
	if b.publish != nil {
		if err := b.publish(topic, msgs); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.init()
	for _, m := range msgs {
		b.where[m.ID], b.topics[m.ID] = len(b.where), topic
		b.put(transport.Delivery{Message: &m, Attempt: 1})
	}
	return nil
}

func (b *broker) put(d transport.Delivery) {
	at, _ := slices.BinarySearchFunc(b.waiting, b.where[d.ID], func(w transport.Delivery, place int) int {
		return b.where[w.ID] - place
	})
	b.waiting = slices.Insert(b.waiting, at, d)
	b.notify()
}

func (b *broker) ackedIDs() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.acked)
}

func (b *broker) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	if b.subscribe != nil {
		if err := b.subscribe(ctx, cfg); err != nil {
			return nil, err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.init()
	s := &brokerSub{b: b, cfg: cfg, closed: make(chan struct{})}
	b.subs = append(b.subs, s)
	return s, nil
}

type brokerSub struct {
	b      *broker
	cfg    transport.SubscribeConfig
	once   sync.Once
	closed chan struct{}
}

func (s *brokerSub) isClosed() bool {
	select {
	case <-s.closed:
		return true
	default:
		return false
	}
}

func under(way func() time.Duration) {
	if way != nil {
		time.Sleep(way())
	}
}

func (s *brokerSub) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	b := s.b
	if b.receive != nil {
		if err := b.receive(); err != nil {
			return nil, err
		}
	}
	under(b.ask)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		b.mu.Lock()
		if s.isClosed() {
			b.mu.Unlock()
			return nil, transport.ErrClosed
		}
		if batch := b.fetch(s.cfg.Topic, max); len(batch) > 0 {
			b.mu.Unlock()
			under(b.answer)
			return batch, nil
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
		case <-s.closed:
		}
	}
}

func (b *broker) fetch(topic string, max int) (batch []transport.Delivery) {
	b.waiting = slices.DeleteFunc(b.waiting, func(d transport.Delivery) bool {
		if b.topics[d.ID] != topic || len(batch) == max {
			return false
		}
		b.tag++
		d.Tag = b.tag
		b.delivered[d.Tag] = d
		batch = append(batch, d)
		return true
	})
	return batch
}

func (s *brokerSub) Settle(ctx context.Context, settlements []transport.Settlement) error {
	b := s.b
	if b.settle != nil {
		if err := b.settle(ctx, settlements); err != nil {
			return err
		}
	}
	if s.isClosed() {
		return transport.ErrClosed
	}
	under(b.send)
	b.mu.Lock()
	for _, settlement := range settlements {
		b.end(settlement)
	}
	b.mu.Unlock()
	under(b.confirm)
	if b.lost != nil {
		return b.lost()
	}
	return nil
}

func (b *broker) end(settlement transport.Settlement) {
	d, ok := b.delivered[settlement.Tag]
	if !ok {
		return
	}
	b.settled = append(b.settled, settlement)
	delete(b.delivered, settlement.Tag)
	switch settlement.Outcome {
	case transport.Ack:
		b.acked = append(b.acked, d.ID)
		return
	case transport.Requeue:
		d.Attempt++
	}
	b.put(d)
}

func (s *brokerSub) Close() error {
	s.once.Do(func() {
		b := s.b
		b.mu.Lock()
		defer b.mu.Unlock()
		close(s.closed)
		for tag, d := range b.delivered {
			if b.topics[d.ID] != s.cfg.Topic {
				continue
			}
			b.end(transport.Settlement{Tag: tag, Outcome: transport.Release})
		}
	})
	return nil
}

// upTo returns a transit time between zero and limit.
func upTo(rng *rand.Rand, limit time.Duration) func() time.Duration {
	var mu sync.Mutex
	return func() time.Duration {
		mu.Lock()
		defer mu.Unlock()
		return time.Duration(rng.Int64N(int64(limit) + 1))
	}
}
