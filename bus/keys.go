package bus

import "github.com/postbus/postbus/transport"

// keyQueue keeps the order of one key within a consumer. It exists while a task of the key is being handled, waits to
// come again, or has gone back to the transport.
type keyQueue struct {
	first, last *task // wait behind the one that is being handled

	// returned: a task of the key has gone back, and later ones must not overtake it. They go back as well, where the
	// transport keeps their order, until a Receive that began after the settlement had arrived.
	returned bool
	settled  bool
	receives uint64 // how many calls of Receive had begun by then
}

// enterKey reports whether t, fetched by Receive call number, can be handled now. If not, it is queued or given back.
func (c *consumer) enterKey(number uint64, t *task) bool {
	k := c.keys[t.Key]
	if k != nil && k.returned {
		if !k.settled || number <= k.receives {
			c.release(t)
			return false
		}
		k.returned = false // from here on the transport's order holds again, and nothing of the key is in hand
		return true
	}
	if k == nil {
		c.keys[t.Key] = &keyQueue{}
		return true
	}
	if k.last == nil {
		k.first = t
	} else {
		k.last.next = t
	}
	k.last = t
	return false
}

// leaveKey makes the next task of the key ready, after t was handled.
func (c *consumer) leaveKey(t *task) {
	if t.Key == "" {
		return
	}
	k := c.keys[t.Key]
	next := k.first
	if next == nil {
		delete(c.keys, t.Key)
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
	c.makeReady(next)
	c.work.Signal()
}

// returnKey gives back what waits behind t, which has gone back itself.
func (c *consumer) returnKey(t *task) {
	if t.Key == "" {
		return
	}
	k := c.keys[t.Key]
	for w := k.first; w != nil; w = w.next {
		c.release(w)
	}
	*k = keyQueue{returned: true}
	c.returning = append(c.returning, t.Key)
}

// keysReturned notes that the settlements of all keys in returning have arrived.
func (c *consumer) keysReturned(keys []string) {
	for _, key := range keys {
		if k := c.keys[key]; k != nil && k.returned {
			k.settled, k.receives = true, c.receives
		}
	}
}

// release gives a task back untried.
func (c *consumer) release(t *task) {
	c.settle(t.tag, transport.Release)
}
