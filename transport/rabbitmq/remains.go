package rabbitmq

import (
	"cmp"
	"slices"
	"time"
)

// remnant is a message that a channel delivered and of whose end the broker may not know.
//
// A quorum queue that loses a consumer brings what that held in the order in which it gave it out last: a message that was
// requeued and given out again then comes behind those that it was before. Whoever consumes next puts them back in their
// places, which is why these outlive the channel.
type remnant struct {
	print string
	place uint64
	acked bool // by us: it comes again only if the broker has not heard of it
}

// leave keeps what a channel of the queue left behind.
func (h *history) leave(r []remnant) {
	slices.SortFunc(r, func(a, b remnant) int { return cmp.Compare(a.place, b.place) })
	h.mu.Lock()
	h.remains = r
	h.mu.Unlock()
}

// inherit returns, once, what the last channel of the queue left behind, in the order of places.
func (h *history) inherit() []remnant {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := h.remains
	h.remains = nil
	return r
}

// recent remembers the last messages that were acked, as many as the broker can take for unacked.
type recent struct {
	list       []remnant
	next, size int
}

func (r *recent) add(it *item) {
	x := remnant{fingerprint(&it.Delivery), it.place, true}
	if len(r.list) < r.size {
		r.list = append(r.list, x)
		return
	}
	r.list[r.next] = x
	r.next = (r.next + 1) % r.size
}

// leaveRemains is called with the lock, before the buffer of c ends.
func (s *subscription) leaveRemains(c *consumer) {
	list, begun := c.buffer.awaited()
	if !begun {
		return // what the channel before it left is still there
	}
	for n := s.tags.first; n < s.tags.next; n++ {
		// What is returning is awaited, and what was released is in the buffer.
		if e := s.tags.at(n); e.it != nil && e.state == unsettled {
			list = append(list, remnant{print: fingerprint(&e.it.Delivery), place: e.it.place})
		}
	}
	s.history.leave(append(list, s.acked.list...))
}

// awaited lists what is in the buffer, and what has not come back to it; begun tells whether there was any delivery.
func (b *buffer) awaited() (list []remnant, begun bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range b.items {
		list = append(list, remnant{print: fingerprint(&b.items[i].Delivery), place: b.items[i].place})
	}
	for _, e := range b.expected {
		list = append(list, remnant{print: e.print, place: e.place})
	}
	return append(list, b.stray...), b.begun
}

// begin takes over the places that an earlier channel left, with the first delivery: it shows that this channel is the
// active one now. What is new comes after them.
func (b *buffer) begin() {
	b.begun = true
	if b.inherit == nil {
		return
	}
	remains := b.inherit()
	b.base = uint64(len(remains))
	until := time.Now().Add(returnWait)
	for i, r := range remains {
		r.place = uint64(i) + 1
		if r.acked {
			b.stray = append(b.stray, r)
		} else {
			b.expected = append(b.expected, expected{r.place, r.print, until, true})
		}
	}
}

// disinherit is called with the first new message. A queue brings before it what comes again: what has not come by then is
// gone, by another's hand.
func (b *buffer) disinherit() {
	b.fresh = true
	b.stray = nil
	b.expected = slices.DeleteFunc(b.expected, func(e expected) bool { return e.inherited })
}

// reclaim returns the place of a message that comes again, or 0 if it has none.
func (b *buffer) reclaim(print string) uint64 {
	if i := slices.IndexFunc(b.expected, func(e expected) bool { return e.print == print }); i >= 0 {
		place := b.expected[i].place
		if i == 0 {
			b.expected = b.expected[1:]
		} else {
			b.expected = slices.Delete(b.expected, i, i+1)
		}
		return place
	}
	if i := slices.IndexFunc(b.stray, func(r remnant) bool { return r.print == print }); i >= 0 {
		place := b.stray[i].place
		b.stray = slices.Delete(b.stray, i, i+1)
		return place
	}
	return 0
}
