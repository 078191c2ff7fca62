package rabbitmq

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// returnWait is how long deliveries behind a requeued message wait for it. The broker brings it at once; if it does not,
// somebody has purged the queue.
const returnWait = 5 * time.Second

// item is a delivery and its place in the order of the queue: that of its first delivery on this channel, or what an earlier
// channel of this process left it.
type item struct {
	amqp.Delivery
	place uint64
}

// expected is a message that was requeued and has not come back.
type expected struct {
	place uint64
	print string
	until time.Time
	// inherited: it was given out on an earlier channel.
	inherited bool
}

// buffer holds what was fetched and not received, in the order of places.
type buffer struct {
	ready chan struct{} // has an element when there is something to look at

	mu    sync.Mutex
	items []item
	// expected, in the order of places, is what comes before later items; empty unless the order is promised.
	expected []expected
	over     error // why no more comes; items are void then

	// inherit returns what the last channel left; nil unless the order is promised.
	inherit func() []remnant
	begun   bool      // there was a delivery
	fresh   bool      // and one that had not been delivered before
	base    uint64    // the last place that was inherited
	stray   []remnant // inherited, and may come or not
}

func (b *buffer) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// add takes a delivery from the broker.
func (b *buffer) add(d *amqp.Delivery) {
	b.mu.Lock()
	if b.over != nil { // the channel was given up
		b.mu.Unlock()
		return
	}
	if !b.begun {
		b.begin()
	}
	place := uint64(0)
	switch {
	case !d.Redelivered && !b.fresh:
		b.disinherit()
	case d.Redelivered && len(b.expected)+len(b.stray) > 0:
		place = b.reclaim(fingerprint(d))
	}
	if place == 0 {
		place = b.base + d.DeliveryTag
	}
	first := len(b.items) == 0
	if first || b.items[len(b.items)-1].place < place {
		b.items = append(b.items, item{*d, place})
	} else {
		b.insert(item{*d, place})
		first = true
	}
	b.mu.Unlock()
	if first {
		b.signal()
	}
}

func (b *buffer) insert(it item) {
	i, _ := slices.BinarySearchFunc(b.items, it.place, func(have item, place uint64) int {
		if have.place < place {
			return -1
		}
		return 1
	})
	b.items = slices.Insert(b.items, i, it)
}

// putBack takes a released delivery.
func (b *buffer) putBack(it item) {
	b.mu.Lock()
	b.insert(it)
	b.mu.Unlock()
	b.signal()
}

// expect holds back what comes after a message that is about to be requeued.
func (b *buffer) expect(it *item) {
	e := expected{it.place, fingerprint(&it.Delivery), time.Now().Add(returnWait), false}
	b.mu.Lock()
	i, _ := slices.BinarySearchFunc(b.expected, e.place, func(have expected, place uint64) int {
		if have.place < place {
			return -1
		}
		return 1
	})
	b.expected = slices.Insert(b.expected, i, e)
	b.mu.Unlock()
}

// take returns up to n deliveries, which the caller owns. If there are only such as wait for a requeued message, it says
// how long at most. The error is why there will be none any more.
func (b *buffer) take(n int) (got []item, wait time.Duration, over error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over != nil {
		return nil, 0, b.over
	}
	free := len(b.items)
	for len(b.expected) > 0 && free > 0 {
		first := b.expected[0]
		if wait = time.Until(first.until); wait <= 0 {
			b.expected = b.expected[1:]
			continue
		}
		free = slices.IndexFunc(b.items, func(it item) bool { return it.place > first.place })
		if free < 0 {
			free = len(b.items)
		}
		break
	}
	if n = min(n, free); n == 0 {
		return nil, wait, nil
	}
	if n == len(b.items) {
		got, b.items = b.items, nil
		return got, 0, nil
	}
	got = slices.Clone(b.items[:n])
	b.items = slices.Delete(b.items, 0, n)
	b.signal()
	return got, 0, nil
}

// end makes the buffer void and returns what was in it.
func (b *buffer) end(why error) []item {
	b.mu.Lock()
	if b.over == nil {
		b.over = why
	}
	rest := b.items
	b.items, b.expected, b.stray = nil, nil, nil
	b.mu.Unlock()
	b.signal()
	return rest
}

// stop says that no more comes. What is there stays, for end.
func (b *buffer) stop(why error) {
	b.mu.Lock()
	if b.over == nil {
		b.over = why
	}
	b.mu.Unlock()
	b.signal()
}

// fingerprint tells messages apart: by ID, or for those that have none by payload.
func fingerprint(d *amqp.Delivery) string {
	if id, ok := d.Headers[uuidHeader].(string); ok && id != "" {
		return id
	}
	if d.MessageId != "" {
		return d.MessageId
	}
	sum := sha256.Sum256(d.Body)
	return string(sum[:])
}
