package rabbitmq

import (
	"cmp"
	"slices"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// buffer holds what was fetched and not received, in the order in which the broker gave it out.
type buffer struct {
	ready chan struct{} // has an element when there is something to look at

	mu    sync.Mutex
	items []amqp.Delivery
	over  error // why no more comes; items are void then
}

func (b *buffer) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}

// add takes a delivery from the broker, which counts their tags up.
func (b *buffer) add(d *amqp.Delivery) {
	b.mu.Lock()
	if b.over != nil { // the channel was given up
		b.mu.Unlock()
		return
	}
	first := len(b.items) == 0
	b.items = append(b.items, *d)
	b.mu.Unlock()
	if first {
		b.signal()
	}
}

// putBack takes deliveries that come again, to the places that they had.
func (b *buffer) putBack(ds []*amqp.Delivery) {
	b.mu.Lock()
	for _, d := range ds {
		i, _ := slices.BinarySearchFunc(b.items, d.DeliveryTag, func(have amqp.Delivery, tag uint64) int {
			return cmp.Compare(have.DeliveryTag, tag)
		})
		b.items = slices.Insert(b.items, i, *d)
	}
	b.mu.Unlock()
	b.signal()
}

// take returns up to n deliveries, which the caller owns. The error is why there will be none any more.
func (b *buffer) take(n int) (got []amqp.Delivery, over error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch n = min(n, len(b.items)); {
	case b.over != nil:
		return nil, b.over
	case n == 0:
		return nil, nil
	case n == len(b.items):
		got, b.items = b.items, nil
		return got, nil
	}
	got = slices.Clone(b.items[:n])
	b.items = slices.Delete(b.items, 0, n)
	b.signal()
	return got, nil
}

// end makes the buffer void and returns what was in it.
func (b *buffer) end(why error) []amqp.Delivery {
	b.stop(why)
	b.mu.Lock()
	defer b.mu.Unlock()
	rest := b.items
	b.items = nil
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
