package memory

import (
	"container/heap"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

// queue holds the messages of one group on one topic.
//
// Publishers write deliveries into chunks, and the consumer is handed parts of the same chunks, so that neither copies
// much under the lock. Nobody changes a delivery after that; one that comes again is a new delivery of the same message.
type queue struct {
	t     *Transport
	group string

	// filled is a hint, for a Receive that looks without the lock, that there is something to fetch. It has a cache
	// line of its own, so that looking does not slow the publishers down.
	_      [64]byte
	filled atomic.Bool
	_      [64]byte

	mu       sync.Mutex
	closed   bool
	head     *chunk // fetched up to its next
	tail     *chunk // filled up to its n
	waiting  int    // in the chunks, not fetched
	returned seqHeap
	delayed  timeHeap
	delays   uint64 // messages that were ever delayed
	timer    *time.Timer
	seq      uint64 // deliveries written so far; their tags
	reserved int    // room promised to publishers that have not pushed yet
	full     bool
	blocked  []chan struct{} // publishers, first come first served

	delivered delivered
	subs      []*subscription // the first is active
}

// chunkSize is how many deliveries share one allocation, and the largest batch that Receive returns.
const chunkSize = 64

// chunkBytes of payload end a chunk before it is full: as long as one delivery of it is in use, or to come, the payloads
// of all live.
const chunkBytes = 256 << 10

type chunk struct {
	deliveries [chunkSize]transport.Delivery
	n, next    int
	bytes      int
	link       *chunk
}

func newQueue(t *Transport, group string) *queue {
	c := &chunk{}
	return &queue{t: t, group: group, head: c, tail: c, delivered: newDelivered()}
}

// lock takes mu. It is held for some tens of nanoseconds, for which it pays to look again before sync.Mutex begins its
// own, much longer spinning.
func (q *queue) lock() {
	for range 100 {
		if q.mu.TryLock() {
			return
		}
	}
	q.mu.Lock()
}

// pushIfRoom pushes b into all queues, unless publishers have to wait for one of them. All who hold the locks of more
// than one queue take them in the order in which groups joined the topic.
func pushIfRoom(queues []*queue, b batch) bool {
	for i, q := range queues {
		q.lock()
		if q.waiting+q.reserved >= q.t.cfg.Capacity {
			q.full = true
		}
		if q.full {
			for _, locked := range queues[:i+1] {
				locked.mu.Unlock()
			}
			return false
		}
	}
	for _, q := range queues {
		wake := q.push(b)
		q.mu.Unlock()
		wake.wakeUp()
	}
	return true
}

// reserve waits until there is room, unless unbounded, and counts n messages as present.
func (q *queue) reserve(ctx context.Context, n int, unbounded bool) error {
	q.lock()
	for !unbounded && !q.closed {
		if q.waiting+q.reserved >= q.t.cfg.Capacity {
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
		q.blocked = append(q.blocked, room)
		q.mu.Unlock()
		select {
		case <-room:
			q.lock()
		case <-ctx.Done():
			q.lock()
			if i := slices.Index(q.blocked, room); i >= 0 {
				q.blocked = slices.Delete(q.blocked, i, i+1)
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
	q.lock()
	q.release(n)
	q.admit()
	empty := q.empty()
	q.mu.Unlock()
	if empty {
		q.t.notifyIdle()
	}
}

// release ends the promise of room for n messages.
func (q *queue) release(n int) {
	if !q.closed { // else it has ended with all the others
		q.reserved -= n
	}
}

func (q *queue) pushReserved(b batch) {
	q.lock()
	q.release(b.len())
	wake := q.push(b)
	q.admit() // those that were for another group or for later have left their room
	empty := q.empty()
	q.mu.Unlock()
	wake.wakeUp()
	if empty {
		q.t.notifyIdle()
	}
}

// push stores b, messages for another group aside, and returns the subscription to wake, if any.
func (q *queue) push(b batch) *subscription {
	if q.closed {
		return nil
	}
	if b.lazy != nil {
		q.next().Lazy = b.lazy
	}
	for i := range b.msgs {
		m := &b.msgs[i]
		switch {
		case m.TargetGroup != "" && m.TargetGroup != q.group:
		case !m.NotBefore.IsZero() && m.NotBefore.After(time.Now()):
			q.delay(m)
		default:
			q.append(m)
		}
	}
	return q.toWake()
}

func (q *queue) append(m *transport.Message) {
	d := q.next()
	d.Message, d.Attempt = m, m.Attempts+1
	q.tail.bytes += len(m.Payload)
}

// next returns the place of the next delivery, to be filled in.
func (q *queue) next() *transport.Delivery {
	if q.tail.n == chunkSize || q.tail.bytes >= chunkBytes {
		q.tail.link = &chunk{}
		q.tail = q.tail.link
	}
	q.seq++
	d := &q.tail.deliveries[q.tail.n]
	d.Tag, d.Attempt = q.seq, 1
	q.tail.n++
	q.waiting++
	if !q.filled.Load() {
		q.filled.Store(true)
	}
	return d
}

// toWake returns the active subscription if it waits and there is something that it may have.
func (q *queue) toWake() *subscription {
	if len(q.subs) == 0 || !q.subs[0].waiting || q.waiting+len(q.returned) == 0 {
		return nil
	}
	s := q.subs[0]
	if q.delivered.n >= s.prefetch {
		return nil
	}
	s.waiting = false
	return s
}

// admit wakes waiting publishers once the queue is half empty: at once for all that half, so that neither side is woken
// for every message. Those that are more than half wait for the next call, in which full is not set any more.
func (q *queue) admit() {
	if !q.full && len(q.blocked) == 0 {
		return
	}
	room := q.t.cfg.Capacity - q.waiting - q.reserved
	if room < (q.t.cfg.Capacity+1)/2 {
		return
	}
	q.full = false
	n := min(room, len(q.blocked))
	for _, w := range q.blocked[:n] {
		w <- struct{}{}
	}
	q.blocked = slices.Delete(q.blocked, 0, n)
}

// fetch hands out up to max deliveries: those that were given back first, for they were published before all others.
func (q *queue) fetch(s *subscription, max int) []transport.Delivery {
	max = min(max, s.prefetch-q.delivered.n, chunkSize)
	if max <= 0 {
		return nil
	}
	var out []transport.Delivery
	if n := min(max, len(q.returned)); n > 0 {
		out = make([]transport.Delivery, n)
		for i := range out {
			out[i] = q.delivered.again(heap.Pop(&q.returned).(given))
		}
	} else {
		if q.head.next == q.head.n && q.head.link != nil {
			q.head = q.head.link
		}
		n := min(max, q.head.n-q.head.next)
		if n == 0 {
			return nil
		}
		out = q.head.deliveries[q.head.next : q.head.next+n : q.head.next+n]
		q.head.next += n
		q.waiting -= n
		q.delivered.add(out)
		q.admit()
	}
	if !s.lazy {
		for i := range out {
			if d := &out[i]; d.Message == nil {
				d.Message, d.Lazy = d.Lazy.Message(), nil
			}
		}
	}
	if q.waiting+len(q.returned) == 0 {
		q.filled.Store(false)
	}
	return out
}

// settle ends one delivery.
func (q *queue) settle(tag uint64, outcome transport.Outcome) {
	g, ok := q.delivered.take(tag)
	if !ok || outcome == transport.Ack {
		return
	}
	if outcome == transport.Requeue {
		g.attempt++
	}
	q.giveBack(g)
}

func (q *queue) giveBack(g given) {
	heap.Push(&q.returned, g)
	q.filled.Store(true)
}

func (q *queue) pending() int {
	return q.waiting + len(q.returned) + len(q.delayed) + q.delivered.n + q.reserved
}

func (q *queue) empty() bool { return q.pending() == 0 }

func (q *queue) close() {
	q.lock()
	defer q.mu.Unlock()
	q.closed, q.full = true, true // full, so that a Publish under way finds out that it is closed
	if q.timer != nil {
		q.timer.Stop()
	}
	for _, w := range q.blocked {
		w <- struct{}{}
	}
	for _, s := range q.subs {
		s.closed = true
		close(s.done)
	}
	q.blocked, q.subs, q.head, q.tail, q.waiting, q.reserved = nil, nil, nil, nil, 0, 0
	q.returned, q.delayed, q.delivered = nil, nil, newDelivered()
}
