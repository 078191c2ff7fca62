package rabbitmq

import amqp "github.com/rabbitmq/amqp091-go"

// tagState is what became of a delivery tag.
type tagState uint8

const (
	unsettled tagState = iota // with the caller
	released                  // back in the buffer, to come again: for the broker it is still delivered
	returning                 // to be requeued
	acked                     // to be acked, by a frame that may be multiple
	settled                   // the broker has been told
)

// tagEntry is one delivery tag.
type tagEntry struct {
	state   tagState
	epoch   uint8 // how often it was handed out again after a release; tags of ours carry it
	attempt int32 // deliveries to this group under this publication, this one included
	unseen  int32 // those of them that the broker does not know of: the message was requeued into the buffer
	id      string
	d       *amqp.Delivery // nil until it is handed out
}

// tags follows the delivery tags of one channel, which the broker counts from 1. Those below first are settled.
type tags struct {
	first uint64
	next  uint64     // the tag that the broker will use next
	ring  []tagEntry // tag n is at n modulo its length, which is a power of two
}

func newTags() tags { return tags{first: 1, next: 1, ring: make([]tagEntry, 256)} }

// reach makes room for tag n.
func (t *tags) reach(n uint64) {
	if n-t.first >= uint64(len(t.ring)) {
		size := 2 * len(t.ring)
		for n-t.first >= uint64(size) {
			size *= 2
		}
		grown := make([]tagEntry, size)
		for i := t.first; i < t.next; i++ {
			grown[i&uint64(size-1)] = *t.at(i)
		}
		t.ring = grown
	}
	for ; t.next <= n; t.next++ {
		*t.at(t.next) = tagEntry{state: released} // fetched and not handed out yet
	}
}

func (t *tags) at(n uint64) *tagEntry { return &t.ring[n&uint64(len(t.ring)-1)] }

// known reports whether tag n was delivered and is not below first.
func (t *tags) known(n uint64) bool { return n >= t.first && n < t.next }

// done ends tag n for the broker, or soon.
func (t *tags) done(n uint64, s tagState) { *t.at(n) = tagEntry{state: s} }

// ackFrame is an acknowledgement to be written.
type ackFrame struct {
	tag      uint64
	multiple bool
}

// flush returns the frames for what was acked since the last flush, which named lists: one, with multiple, for the
// contiguous prefix of settled tags, and one for each tag behind it. None covers a tag that is not settled.
func (t *tags) flush(named []uint64) []ackFrame {
	frames := make([]ackFrame, 0, 8)
	last, n := uint64(0), 0
	for t.first < t.next && t.at(t.first).state >= acked {
		if t.at(t.first).state == acked {
			last = t.first
			n++
		}
		t.first++
	}
	if n > 0 {
		frames = append(frames, ackFrame{last, n > 1})
	}
	for _, tag := range named {
		if tag >= t.first {
			t.at(tag).state = settled
			frames = append(frames, ackFrame{tag, false})
		}
	}
	return frames
}
