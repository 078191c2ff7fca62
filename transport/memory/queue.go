package memory

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// queue holds the messages of one group on one topic: each in a slot, and the numbers of the slots in the order in
// which they are due.
type queue struct {
	t     *Transport
	group string

	mu       sync.Mutex
	closed   bool
	slots    []slot
	free     []uint32
	ready    ring     // never delivered, in the order of publishing
	returned seqHeap  // delivered and given back: all were published before any in ready
	delayed  timeHeap // not due yet
	timer    *time.Timer
	seq      uint64
	tags     uint64 // deliveries so far
	reserved int    // room promised to publishers that have not pushed yet
	full     bool
	waiting  []chan struct{} // publishers, first come first served

	subs []*subscription // the first is active
}

// slotBits is how many bits of a tag name the slot.
const slotBits = 31

type slot struct {
	msg      transport.Message
	seq      uint64
	attempts int
	tag      uint64 // 0 unless delivered
	due      time.Time
}

func newQueue(t *Transport, group string) *queue {
	q := &queue{t: t, group: group}
	q.returned.q, q.delayed.q = q, q
	return q
}

// pushIfRoom pushes msgs unless publishers have to wait.
func (q *queue) pushIfRoom(msgs []transport.Message) bool {
	q.mu.Lock()
	if q.ready.len()+q.reserved >= q.t.cfg.Capacity {
		q.full = true
	}
	if q.full {
		q.mu.Unlock()
		return false
	}
	wake := q.push(msgs)
	q.mu.Unlock()
	wake.wakeUp()
	return true
}

// reserve waits until there is room, unless unbounded, and counts n messages as present.
func (q *queue) reserve(ctx context.Context, n int, unbounded bool) error {
	q.mu.Lock()
	for !unbounded && !q.closed {
		if q.ready.len()+q.reserved >= q.t.cfg.Capacity {
			q.full = true
		}
		if !q.full {
			break
		}
		if err := ctx.Err(); err != nil {
			q.mu.Unlock()
			return err
		}
		room := make(chan struct{}, 1)
		q.waiting = append(q.waiting, room)
		q.mu.Unlock()
		select {
		case <-room:
			q.mu.Lock()
		case <-ctx.Done():
			q.mu.Lock()
			if i := slices.Index(q.waiting, room); i >= 0 {
				q.waiting = slices.Delete(q.waiting, i, i+1)
			} else {
				q.admit() // woken and gone: the place belongs to the next
			}
			q.mu.Unlock()
			return ctx.Err()
		}
	}
	defer q.mu.Unlock()
	if q.closed {
		return transport.ErrClosed
	}
	q.reserved += n
	return nil
}

func (q *queue) unreserve(n int) {
	q.mu.Lock()
	q.reserved -= n
	q.admit()
	q.mu.Unlock()
}

func (q *queue) pushReserved(msgs []transport.Message) {
	q.mu.Lock()
	q.reserved -= len(msgs)
	wake := q.push(msgs)
	q.admit() // those that were for another group or for later have left their room
	q.mu.Unlock()
	wake.wakeUp()
}

// push stores msgs, those for another group aside, and returns the subscription to wake, if any.
func (q *queue) push(msgs []transport.Message) *subscription {
	if q.closed {
		return nil
	}
	for i := range msgs {
		m := &msgs[i]
		if m.TargetGroup != "" && m.TargetGroup != q.group {
			continue
		}
		n := q.take()
		s := &q.slots[n]
		s.msg, s.attempts = *m, m.Attempts
		if !m.NotBefore.IsZero() && m.NotBefore.After(time.Now()) {
			s.due = m.NotBefore
			q.seq++
			s.seq = q.seq
			heap.Push(&q.delayed, n)
			q.setTimer()
			continue
		}
		q.enqueue(n)
	}
	return q.toWake()
}

// take returns the number of a free slot.
func (q *queue) take() uint32 {
	if last := len(q.free) - 1; last >= 0 {
		n := q.free[last]
		q.free = q.free[:last]
		return n
	}
	q.slots = append(q.slots, slot{})
	return uint32(len(q.slots) - 1)
}

func (q *queue) enqueue(n uint32) {
	q.seq++
	q.slots[n].seq = q.seq
	q.ready.push(n)
}

// toWake returns the active subscription if it waits and there is something for it.
func (q *queue) toWake() *subscription {
	if len(q.subs) == 0 || !q.subs[0].waiting || q.ready.len()+q.returned.Len() == 0 {
		return nil
	}
	q.subs[0].waiting = false
	return q.subs[0]
}

// admit wakes waiting publishers once the queue is half empty: at once for all that half, so that neither side is woken
// for every message.
func (q *queue) admit() {
	room := q.t.cfg.Capacity - q.ready.len() - q.reserved
	if !q.full || room < (q.t.cfg.Capacity+1)/2 {
		return
	}
	q.full = false
	n := min(room, len(q.waiting))
	for _, w := range q.waiting[:n] {
		w <- struct{}{}
	}
	q.waiting = slices.Delete(q.waiting, 0, n)
}

// fetch moves up to max messages into deliveries.
func (q *queue) fetch(s *subscription, max int) []transport.Delivery {
	n := min(max, q.ready.len()+q.returned.Len(), s.prefetch-s.inFlight)
	if n <= 0 {
		return nil
	}
	out := make([]transport.Delivery, n)
	for i := range out {
		var num uint32
		if q.returned.Len() > 0 {
			num = heap.Pop(&q.returned).(uint32)
		} else {
			num = q.ready.pop()
		}
		s := &q.slots[num]
		s.attempts++
		q.tags++
		s.tag = q.tags<<slotBits | uint64(num) // no two deliveries share a tag, and none has the tag 0
		out[i].Message, out[i].Tag, out[i].Attempt = s.msg, s.tag, s.attempts
	}
	s.inFlight += n
	q.admit()
	return out
}

// settle ends one delivery. It reports whether the tag was valid.
func (q *queue) settle(tag uint64, outcome transport.Outcome) bool {
	n := uint32(tag & (1<<slotBits - 1))
	if tag == 0 || int(n) >= len(q.slots) || q.slots[n].tag != tag {
		return false
	}
	s := &q.slots[n]
	s.tag = 0
	switch outcome {
	case transport.Ack:
		q.slots[n] = slot{}
		q.free = append(q.free, n)
		if len(q.free) == len(q.slots) && len(q.slots) > 4*q.t.cfg.Capacity {
			q.slots, q.free = nil, nil // a burst is over: give its memory back
		}
	case transport.Release:
		s.attempts--
		heap.Push(&q.returned, n)
	default:
		heap.Push(&q.returned, n)
	}
	return true
}

func (q *queue) pending() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		return 0
	}
	return len(q.slots) - len(q.free) + q.reserved
}

// setTimer arranges for the earliest delayed message.
func (q *queue) setTimer() {
	if q.delayed.Len() == 0 {
		return
	}
	wait := max(0, time.Until(q.slots[q.delayed.nums[0]].due))
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.ripen)
	} else {
		q.timer.Reset(wait)
	}
}

// ripen moves the delayed messages that are due into the queue.
func (q *queue) ripen() {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	now := time.Now()
	for q.delayed.Len() > 0 && !q.slots[q.delayed.nums[0]].due.After(now) {
		q.enqueue(heap.Pop(&q.delayed).(uint32))
	}
	q.setTimer()
	wake := q.toWake()
	q.mu.Unlock()
	wake.wakeUp()
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	if q.timer != nil {
		q.timer.Stop()
	}
	for _, w := range q.waiting {
		w <- struct{}{}
	}
	for _, s := range q.subs {
		s.closed = true
		close(s.done)
	}
	q.waiting, q.subs, q.slots, q.free = nil, nil, nil, nil
	q.ready, q.returned.nums, q.delayed.nums = ring{}, nil, nil
}

// ring is a queue of slot numbers.
type ring struct {
	buf  []uint32 // its length is a power of two
	head int
	n    int
}

func (r *ring) len() int { return r.n }

func (r *ring) push(v uint32) {
	if r.n == len(r.buf) {
		grown := make([]uint32, max(16, 2*len(r.buf)))
		copied := copy(grown, r.buf[r.head:])
		copy(grown[copied:], r.buf[:r.head])
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

func (r *ring) pop() uint32 {
	v := r.buf[r.head]
	r.head = (r.head + 1) & (len(r.buf) - 1)
	r.n--
	return v
}

// slotHeap is what the two heaps share.
type slotHeap struct {
	q    *queue
	nums []uint32
}

func (h *slotHeap) Len() int      { return len(h.nums) }
func (h *slotHeap) Swap(i, j int) { h.nums[i], h.nums[j] = h.nums[j], h.nums[i] }
func (h *slotHeap) Push(v any)    { h.nums = append(h.nums, v.(uint32)) }
func (h *slotHeap) Pop() any {
	last := len(h.nums) - 1
	v := h.nums[last]
	h.nums = h.nums[:last]
	return v
}

// seqHeap orders by the order of publishing.
type seqHeap struct{ slotHeap }

func (h *seqHeap) Less(i, j int) bool {
	return h.q.slots[h.nums[i]].seq < h.q.slots[h.nums[j]].seq
}

// timeHeap orders by the time at which messages are due, then by the order of publishing.
type timeHeap struct{ slotHeap }

func (h *timeHeap) Less(i, j int) bool {
	a, b := &h.q.slots[h.nums[i]], &h.q.slots[h.nums[j]]
	if !a.due.Equal(b.due) {
		return a.due.Before(b.due)
	}
	return a.seq < b.seq
}
