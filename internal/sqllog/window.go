package sqllog

import (
	"math"
	"slices"

	"github.com/postbus/postbus/transport"
)

// window holds the unsettled messages of one consumer, from their reading to their settlement. It does no I/O and no
// locking.
//
// A message is staged when read, marked when the database is being told that it is delivered, ready when it was told,
// and handed when Receive gave it out. A requeue stages it again.
type window struct {
	prefetch int

	// head and tail are the ends of the list of unsettled messages of the log, in its order.
	head, tail *entry
	known      int // how many of them the state tells of; they come first
	readPos    Pos // all before it was read
	frontier   Pos // all before it is told of
	skip       []Pos

	staged, ready queue
	marked        []*entry
	handed        map[uint64]*entry
	suspects      int

	laterDone []int64     // settled messages of postbus_later, to be deleted
	laterNote []laterNote // attempts of those to be written
	laterHave map[int64]*entry
	laterGone map[int64]struct{} // settled since the read that is under way began: it may have seen them

	seq, tags uint64
}

type laterNote struct {
	id       int64
	attempts int
	taken    bool // in flight, or about to be
}

type phase uint8

const (
	staged phase = iota
	marked
	ready
	handed
)

// entry is an unsettled message.
type entry struct {
	pos, prev Pos // prev: all between it and pos is settled or not this consumer's
	laterID   int64
	msg       *transport.Message
	attempts  int // deliveries that ended with a requeue, or with the end of their consumer
	phase     phase
	known     bool
	returned  bool // it was delivered before: it goes before all that were not
	suspect   bool // it was in flight when a consumer ended: it is delivered alone
	seq, tag  uint64

	next, before *entry
}

// newWindow makes the window of a consumer that found s; tags begin after lastTag.
func newWindow(prefetch int, s *state, lastTag uint64) *window {
	return &window{prefetch: prefetch, tags: lastTag, readPos: s.run, frontier: s.frontier, skip: s.skip,
		handed: map[uint64]*entry{}, laterHave: map[int64]*entry{}, laterGone: map[int64]struct{}{}}
}

// add takes a message that was read.
func (w *window) add(e *entry) {
	w.seq++
	e.seq, e.phase = w.seq, staged
	if e.suspect {
		w.suspects++
	}
	if e.laterID != 0 {
		w.laterHave[e.laterID] = e
	} else {
		if e.before = w.tail; w.tail != nil {
			w.tail.next = e
		} else {
			w.head = e
		}
		w.tail = e
		if e.known {
			w.known++
		}
	}
	w.staged.push(e)
}

// addLater takes a message of postbus_later, unless it is there, or a read saw it late.
func (w *window) addLater(r *Later) {
	if _, gone := w.laterGone[r.ID]; gone || w.laterHave[r.ID] != nil {
		return
	}
	row := Row{UUID: r.UUID, Metadata: []byte(r.Metadata), Payload: r.Payload, Pos: Pos{Off: r.ID}}
	w.add(&entry{laterID: r.ID, msg: decode(&row), attempts: r.Attempts, suspect: r.Taken != 0})
}

func (w *window) unlink(e *entry) {
	if e.suspect {
		e.suspect = false
		w.suspects--
	}
	if e.laterID != 0 {
		delete(w.laterHave, e.laterID)
		w.laterGone[e.laterID] = struct{}{}
		return
	}
	if e.known {
		w.known--
	}
	if e.before != nil {
		e.before.next = e.next
	} else {
		w.head = e.next
	}
	if e.next != nil {
		e.next.before = e.before
	} else {
		w.tail = e.before
	}
}

// skips reports whether pos is settled from the start.
func (w *window) skips(p Pos) bool {
	_, found := slices.BinarySearchFunc(w.skip, p, Pos.Compare)
	return found
}

// room is how many more messages are worth reading.
func (w *window) room(batch int) int { return max(w.prefetch, batch) + batch - w.staged.len() }

// promote marks what may be delivered next.
func (w *window) promote() {
	if w.suspects > 0 {
		if w.staged.len() > 0 && len(w.marked)+w.ready.len()+len(w.handed) == 0 {
			w.mark(w.staged.pop())
		}
		return
	}
	for w.staged.len() > 0 && (w.staged.front().returned || len(w.marked)+w.ready.len() < w.prefetch) {
		w.mark(w.staged.pop())
	}
}

func (w *window) mark(e *entry) {
	e.phase = marked
	if e.laterID != 0 {
		w.laterNote = append(w.laterNote, laterNote{e.laterID, e.attempts + 1, true})
	} else if !e.known {
		e.known = true
		w.known++
		if w.frontier.before(e.pos) {
			w.frontier = e.pos
		}
	}
	w.marked = append(w.marked, e)
}

// wantsMark reports whether promote would do something that is worth a write of its own.
func (w *window) wantsMark() bool {
	if w.staged.len() == 0 {
		return false
	}
	if w.suspects > 0 {
		return len(w.marked)+w.ready.len()+len(w.handed) == 0
	}
	return w.staged.front().returned || len(w.marked)+w.ready.len() <= w.prefetch/2
}

// told ends a write: what was marked is ready or, if the write failed, staged again.
func (w *window) told(ok bool) {
	for _, e := range w.marked {
		if ok {
			e.phase = ready
			w.ready.push(e)
		} else {
			e.phase = staged
			w.staged.push(e)
		}
	}
	w.marked = w.marked[:0]
}

// hand gives out up to n messages.
func (w *window) hand(n int) []transport.Delivery {
	n = min(n, w.ready.len(), w.prefetch-len(w.handed))
	if n <= 0 {
		return nil
	}
	// What was given back goes first, but is not to be had until the database was told: the others wait for it.
	first := uint64(math.MaxUint64)
	if w.staged.len() > 0 {
		first = w.staged.front().seq
	}
	for _, e := range w.marked {
		first = min(first, e.seq)
	}
	out := make([]transport.Delivery, 0, n)
	for len(out) < n && w.ready.front().seq < first {
		e := w.ready.pop()
		w.tags++
		e.phase, e.tag = handed, w.tags
		w.handed[e.tag] = e
		out = append(out, transport.Delivery{Message: e.msg, Tag: e.tag, Attempt: e.msg.Attempts + e.attempts + 1})
	}
	return out
}

// settle ends a delivery; it reports whether the tag was valid.
func (w *window) settle(tag uint64, outcome transport.Outcome) bool {
	e := w.handed[tag]
	if e == nil {
		return false
	}
	delete(w.handed, tag)
	e.tag = 0
	if outcome == transport.Ack {
		if e.laterID != 0 {
			w.laterDone = append(w.laterDone, e.laterID)
		}
		w.unlink(e)
		return true
	}
	if outcome != transport.Release {
		e.attempts++
	}
	if e.suspect { // it did not kill
		e.suspect = false
		w.suspects--
	}
	w.back(e)
	return true
}

func (w *window) back(e *entry) {
	e.phase, e.returned = staged, true
	if e.laterID != 0 {
		w.laterNote = append(w.laterNote, laterNote{e.laterID, e.attempts, false})
	}
	w.staged.push(e)
}

// release takes everything back, as at the end of a subscription.
func (w *window) release() {
	for tag, e := range w.handed {
		delete(w.handed, tag)
		e.tag = 0
		w.back(e)
	}
	for w.ready.len() > 0 {
		w.back(w.ready.pop())
	}
	for _, e := range w.marked {
		w.back(e)
	}
	w.marked = w.marked[:0]
}

// snapshot is the state as it is to be written.
func (w *window) snapshot() state {
	s := state{prefix: w.prefix()}
	if w.head == nil || !w.head.known {
		s.run, s.frontier = s.prefix, s.prefix
	} else {
		s.frontier = w.frontier
		s.run = s.frontier
		last := w.tail
		for !last.known {
			last = last.before
		}
		in := last
		for in != nil && in.pos == s.run && in.attempts == 0 && !in.suspect && in.phase != staged {
			s.run = in.prev
			in = in.before
		}
		for e := w.head; e != nil && e.known && !s.run.before(e.pos); e = e.next {
			s.pending = append(s.pending, pending{e.pos, e.attempts, e.phase != staged})
		}
	}
	for len(w.skip) > 0 && !s.prefix.before(w.skip[0]) {
		w.skip = w.skip[1:]
	}
	s.skip = w.skip
	return s
}

// prefix is the position up to which everything is settled.
func (w *window) prefix() Pos {
	if w.head == nil {
		return w.readPos
	}
	return w.head.prev
}
