package bus

import (
	"cmp"
	"slices"

	"github.com/postbus/postbus/transport"
)

// keyQueue keeps the order of one key within a consumer. It exists while a task of the key is being handled, waits to
// come again, or is on its way back to the transport.
type keyQueue struct {
	first, last *task // wait behind the one that is being handled

	// returned: a task of the key goes back, and later ones must not overtake it. All that are in hand go back with it,
	// in one batch of settlements, and no Receive runs while that is under way: from then on the transport's order holds.
	returned bool
}

// enterKey reports whether t can be handled now. If not, it is queued or given back.
func (c *consumer) enterKey(key string, t *task) bool {
	k := c.keys[key]
	switch {
	case k == nil:
		c.keys[key] = &keyQueue{}
		return true
	case k.returned:
		c.release(t)
		return false
	case k.last == nil:
		k.first = t
	default:
		k.last.next = t
	}
	k.last = t
	return false
}

// leaveKey makes the next task of the key ready, after t was handled.
func (c *consumer) leaveKey(t *task) {
	key := t.key()
	if key == "" {
		return
	}
	k := c.keys[key]
	next := k.first
	if next == nil {
		delete(c.keys, key)
		return
	}
	if k.first = next.next; k.first == nil {
		k.last = nil
	}
	next.next = nil
	if c.stopping && c.cfg.Delivery == AtLeastOnce {
		c.release(next)
		return
	}
	c.makeReadyInTurn(next)
	c.work.Signal()
}

// makeReadyInTurn makes t ready before those that came after it: a single worker keeps the order of the topic.
func (c *consumer) makeReadyInTurn(t *task) {
	at, _ := slices.BinarySearchFunc(c.ready[c.next:], t.number, func(r *task, number uint64) int {
		return cmp.Compare(r.number, number)
	})
	if c.next == 0 {
		c.ready = slices.Insert(c.ready, at, t)
		return
	}
	copy(c.ready[c.next-1:], c.ready[c.next:c.next+at]) // there is room where the last one was taken
	c.next--
	c.ready[c.next+at] = t
}

// returnKey gives back what waits behind t, which goes back itself.
func (c *consumer) returnKey(t *task) {
	key := t.key()
	if key == "" {
		return
	}
	k := c.keys[key]
	for w := k.first; w != nil; w = w.next {
		c.release(w)
	}
	*k = keyQueue{returned: true}
	c.returning = append(c.returning, key)
}

// keysReturned notes that nothing of these keys is in hand any more.
func (c *consumer) keysReturned(keys []string) {
	for _, key := range keys {
		delete(c.keys, key)
	}
}

// release gives a task back untried.
func (c *consumer) release(t *task) {
	c.settle(t.tag, transport.Release)
}
