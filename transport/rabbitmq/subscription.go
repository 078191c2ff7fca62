package rabbitmq

import (
	"context"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// A tag of a delivery is the generation of its channel, 8 bits of its epoch and, in the lower tagBits, the broker's tag.
const (
	tagBits   = 40
	epochBits = 8
)

// requeueWait is how long a requeue waits for the next Receive. A message that is requeued and at once fetched again by
// this subscription is counted as delivered by the broker, also if the subscription is closed and nobody received it. So
// a Close that follows a requeue must come first, also on a slow machine.
const requeueWait = 2 * time.Second

// subscription is one consumer of a group's queue. It begins to fetch with the first Receive.
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
	opening *opening  // of the next one; nil unless it is under way
	gen     uint64    // how many there have been
	tags    tags
	held    int // deliveries of the current channel that are with the caller
	failed  int // attempts to resume that failed in a row
	// requeues are tags to be given back: by the next Receive, or by timer.
	requeues  []uint64
	receiving bool
	timer     *time.Timer
}

func newSubscription(t *Transport, l *link, cfg transport.SubscribeConfig) *subscription {
	queue := queueName(cfg.Topic, cfg.Group)
	s := &subscription{t: t, link: l, cfg: cfg, queue: queue, history: t.historyOf(queue)}
	s.life, s.end = context.WithCancel(context.Background())
	return s
}

// Receive implements transport.Subscription.
func (s *subscription) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	s.setReceiving(true)
	defer s.setReceiving(false)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		c, closed := s.current, s.closed
		room := s.cfg.Prefetch - s.held // the broker gives out one more beside the last of a probation
		s.mu.Unlock()
		if closed {
			return nil, transport.ErrClosed
		}
		if c == nil {
			if err := s.recover(ctx); err != nil {
				return nil, err
			}
			continue
		}
		fetched, over := c.take(min(max, room))
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

// setReceiving notes whether Receive is at work; if so, requeues need not wait.
func (s *subscription) setReceiving(on bool) {
	s.mu.Lock()
	s.receiving = on
	waiting := on && len(s.requeues) > 0
	s.mu.Unlock()
	if waiting {
		s.flush()
	}
}

// deliver hands out what was fetched; nil if the channel was replaced meanwhile.
func (s *subscription) deliver(c *consumer, fetched []amqp.Delivery) []transport.Delivery {
	out := make([]transport.Delivery, len(fetched))
	msgs := make([]transport.Message, len(fetched))
	befores := make([]int, len(fetched))
	for i := range fetched {
		msgs[i], befores[i] = decode(&fetched[i])
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.current != c {
		return nil
	}
	s.held += len(fetched)
	for i := range fetched {
		d, m := &fetched[i], &msgs[i]
		s.tags.reach(d.DeliveryTag)
		e := s.tags.at(d.DeliveryTag)
		if e.d == nil {
			e.id, e.attempt = m.ID, s.history.attempt(m.ID, befores[i])
		} else {
			e.epoch++ // it comes again
			m.ID = e.id
		}
		e.state, e.d = unsettled, d
		out[i] = transport.Delivery{Message: m, Tag: tagOf(c.gen, e.epoch, d.DeliveryTag), Attempt: m.Attempts + int(e.attempt)}
	}
	return out
}

func tagOf(gen uint64, epoch uint8, tag uint64) uint64 {
	return gen<<(tagBits+epochBits) | uint64(epoch)<<tagBits | tag
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
	full, waiting := s.held == s.cfg.Prefetch, len(s.requeues)
	named := make([]uint64, 0, len(settlements))
	var back []*amqp.Delivery
	for _, to := range settlements {
		tag := to.Tag & (1<<tagBits - 1)
		if !s.tags.known(tag) {
			continue
		}
		e := s.tags.at(tag)
		if e.state != unsettled || to.Tag != tagOf(c.gen, e.epoch, tag) {
			continue
		}
		s.held--
		switch {
		case to.Outcome == transport.Ack:
			s.history.acked(e.id)
			s.tags.done(tag, acked)
			named = append(named, tag)
		case to.Outcome == transport.Release:
			// The broker would count it, and bring it behind what this subscription has fetched: it stays here.
			e.state = released
			back = append(back, e.d)
		case s.t.cfg.SingleActiveConsumer:
			// It stays as well. A quorum queue would bring it again behind those that it was before, should this channel end.
			e.state = released
			e.attempt++
			e.unseen++
			back = append(back, e.d)
		default:
			e.state = returning
			s.requeues = append(s.requeues, tag)
		}
	}
	switch {
	case len(back) > 0:
		c.putBack(back)
	case full:
		c.signal() // there is room
	}
	acks := s.tags.flush(named)
	var requeues []uint64
	switch {
	case len(s.requeues) == 0:
	case s.receiving:
		requeues = s.takeRequeues()
	case len(s.requeues) == waiting: // the timer runs
	case s.timer == nil:
		s.timer = time.AfterFunc(requeueWait, s.flush)
	default:
		s.timer.Reset(requeueWait)
	}
	s.mu.Unlock()
	c.settle(acks, requeues)
	return nil
}

// flush gives back what waits for it.
func (s *subscription) flush() {
	s.writing.Lock()
	defer s.writing.Unlock()
	s.mu.Lock()
	c := s.current
	if c == nil || s.closed {
		s.mu.Unlock()
		return
	}
	requeues := s.takeRequeues()
	s.mu.Unlock()
	c.settle(nil, requeues)
}

// takeRequeues returns the tags to be requeued, in their order: a quorum queue brings them in the order of requeues.
func (s *subscription) takeRequeues() []uint64 {
	tags := s.requeues
	s.requeues = nil
	slices.Sort(tags)
	for _, tag := range tags {
		e := s.tags.at(tag)
		s.history.returned(e.id, e.attempt, 0, true)
		s.tags.done(tag, settled)
	}
	return tags
}

// Close implements transport.Subscription. It waits for the broker, a second at most.
func (s *subscription) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	c, o := s.current, s.opening
	s.current = nil
	s.end()
	if s.timer != nil {
		s.timer.Stop()
	}
	if c != nil {
		s.forgetDeliveries(c, true)
	}
	s.mu.Unlock()
	if o != nil {
		<-o.done
	}
	if c != nil {
		c.close()
	}
	s.t.mu.Lock()
	delete(s.t.subs, s)
	s.t.mu.Unlock()
	return nil
}

// forgetDeliveries tells the history of the deliveries that end with their channel. Those that were not handed out or
// released, and if the end is orderly those that are still with the caller, were no attempts.
func (s *subscription) forgetDeliveries(c *consumer, orderly bool) {
	for n := s.tags.first; n < s.tags.next; n++ {
		e := s.tags.at(n)
		switch {
		case e.d == nil: // never handed out: it is in the buffer
		case e.state <= returning:
			tried := e.state == returning || e.state == unsettled && !orderly
			s.history.returned(e.id, e.attempt, e.unseen, tried)
		}
	}
	s.notTried(slices.DeleteFunc(c.buffer.end(transport.ErrClosed), func(d amqp.Delivery) bool {
		return s.tags.known(d.DeliveryTag) && s.tags.at(d.DeliveryTag).d != nil // it comes again
	}))
	s.requeues = nil
}

// notTried tells the history of what was fetched and not handed out.
func (s *subscription) notTried(ds []amqp.Delivery) {
	for i := range ds {
		m, before := decode(&ds[i])
		s.history.returned(m.ID, s.history.attempt(m.ID, before), 0, false)
	}
}
