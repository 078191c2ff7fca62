package bustest

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// broker is the far side of the adversarial transport: what outlives the process. Its clients are processes.
//
// What it hands out is decided by grants (see [broker.grant]), one delivery at a time. Without a script it behaves as
// any transport, which is how the conformance suite tests the rest of it.
type broker struct {
	scripted   bool
	journal    *journal
	atMostOnce map[string]bool // by group: what was acknowledged never comes again
	wake       chan struct{}   // for the script: something has happened

	mu        sync.Mutex
	topics    map[string][]*brokerQueue
	published int // messages so far, which names them in the trace
	places    uint64
	tags      uint64
}

var capabilities = transport.Capabilities{Order: transport.OrderPerKey, Delay: true, Target: true}

// brokerQueue holds the messages of one group on one topic.
type brokerQueue struct {
	topic, group string
	items        []*item // all but the acknowledged, by place
	acked        []*item // in the order of their acknowledgement; scripted brokers only
	subs         []*brokerSub
}

// item is one message for one group.
type item struct {
	msg        *transport.Message
	number     int    // of the message
	place      uint64 // in the order of the queue
	deliveries int
	faults     int // it has suffered
	state      itemState
	holder     *brokerSub // of a given one
	tag        uint64
}

type itemState uint8

const (
	waiting itemState = iota
	delayed           // until it is due
	granted           // for the next Receive
	given             // delivered, not settled
)

// maxAcked is how many acknowledged items of a queue can come again.
const maxAcked = 64

func newBroker(j *journal) *broker {
	return &broker{journal: j, wake: make(chan struct{}, 1), topics: map[string][]*brokerQueue{}}
}

func (b *broker) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// store puts a batch into the queues of all groups. It is called with the lock.
func (b *broker) store(topic string, msgs []transport.Message) {
	for i := range msgs {
		m := &msgs[i]
		if m.Value != nil || m.Metadata != nil && len(m.Metadata) == 0 {
			bare := *m
			if bare.Value = nil; len(bare.Metadata) == 0 {
				bare.Metadata = nil
			}
			m = &bare
		}
		b.journal.add(topic, m)
		b.published++
		for _, q := range b.topics[topic] {
			if m.TargetGroup != "" && m.TargetGroup != q.group {
				continue
			}
			it := &item{msg: m, number: b.published}
			if m.NotBefore.After(time.Now()) {
				it.state = delayed
			}
			b.enqueue(q, it)
		}
	}
}

// enqueue puts an item at the end of its queue.
func (b *broker) enqueue(q *brokerQueue, it *item) {
	b.places++
	it.place = b.places
	q.items = append(q.items, it)
	q.announce()
}

// restore brings an acknowledged item back, to where it was in the order.
func (q *brokerQueue) restore(it *item) {
	i, _ := slices.BinarySearchFunc(q.items, it.place, func(it *item, place uint64) int { return cmp.Compare(it.place, place) })
	it.state = waiting
	q.items = slices.Insert(q.items, i, it)
}

func (q *brokerQueue) announce() {
	if len(q.subs) > 0 {
		q.subs[0].signal()
	}
}

// ripen makes delayed items available that are due at t or before, at the end of the order, and returns when the next
// one is due; the zero time if there is none.
func (b *broker) ripen(q *brokerQueue, t time.Time) (next time.Time) {
	var due []*item
	q.items = slices.DeleteFunc(q.items, func(it *item) bool {
		switch at := it.msg.NotBefore; {
		case it.state != delayed:
		case !at.After(t):
			due = append(due, it)
			return true
		case next.IsZero() || at.Before(next):
			next = at
		}
		return false
	})
	slices.SortStableFunc(due, func(a, b *item) int { return a.msg.NotBefore.Compare(b.msg.NotBefore) })
	for _, it := range due {
		it.state = waiting
		b.enqueue(q, it)
	}
	return next
}

// heads returns the items that may be delivered next: of each key the first.
func (q *brokerQueue) heads() []*item {
	var heads []*item
	seen := map[string]bool{}
	for _, it := range q.items {
		if it.state != waiting || seen[it.msg.Key] {
			continue
		}
		seen[it.msg.Key] = it.msg.Key != ""
		heads = append(heads, it)
	}
	return heads
}

// take hands items out to a subscription.
func (b *broker) take(s *brokerSub, most int) []transport.Delivery {
	q := s.q
	if q.subs[0] != s {
		return nil
	}
	var out []transport.Delivery
	for _, it := range q.items {
		ready := it.state == granted || it.state == waiting && !b.scripted
		if !ready || len(out) == most || s.unsettled == s.prefetch {
			continue
		}
		b.tags++
		it.state, it.holder, it.tag = given, s, b.tags
		it.deliveries++
		s.unsettled++
		out = append(out, transport.Delivery{Message: it.msg, Tag: it.tag, Attempt: it.msg.Attempts + it.deliveries})
	}
	return out
}

// settle ends the delivery of a tag, if it is valid.
func (b *broker) settle(s *brokerSub, tag uint64, outcome transport.Outcome) {
	q := s.q
	i := slices.IndexFunc(q.items, func(it *item) bool { return it.state == given && it.holder == s && it.tag == tag })
	if i < 0 {
		return
	}
	it := q.items[i]
	s.unsettled--
	if outcome != transport.Ack {
		if outcome == transport.Release {
			it.deliveries--
		}
		it.state = waiting
		q.announce()
		return
	}
	q.items = slices.Delete(q.items, i, i+1)
	if b.scripted && !b.atMostOnce[q.group] {
		q.acked = append(q.acked, it)
		q.acked = q.acked[max(0, len(q.acked)-maxAcked):]
	}
}

// lose takes back all that a dead process was given, granted or in hand; the attempts count.
func (b *broker) lose() {
	for q := range b.queues {
		for _, it := range q.items {
			if it.state == granted || it.state == given {
				it.state = waiting
			}
		}
		q.subs = nil
	}
}

// queues yields all queues, sorted by topic and group.
func (b *broker) queues(yield func(*brokerQueue) bool) {
	var all []*brokerQueue
	for _, queues := range b.topics {
		all = append(all, queues...)
	}
	slices.SortFunc(all, func(a, b *brokerQueue) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.group, b.group))
	})
	for _, q := range all {
		if !yield(q) {
			return
		}
	}
}

func (b *broker) pending() []outstanding {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []outstanding
	for q := range b.queues {
		for _, it := range q.items {
			list = append(list, outstanding{
				event: it.msg.Name, id: it.msg.ID, key: it.msg.Key, topic: q.topic, group: q.group,
				attempts: it.msg.Attempts + it.deliveries, due: it.msg.NotBefore, handling: it.state == given,
			})
		}
	}
	return list
}

// begins notes the handler that the current step has started.
func (p *process) begins(ctx context.Context, _ *bus.Delivery) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if s := p.step; s != nil && s.handler == nil { // once: what the handler has left behind may read it
		s.handler, s.goroutine = ctx, goroutineID()
	}
}

// ended ends the current step if it was for a group at most once, which acknowledges before it handles.
func (p *process) ended(string, string, string) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	if s := p.step; s != nil && !p.dead && s.atMostOnce {
		s.finish()
		p.b.signal()
	}
}
