package rabbitmq

// tagState is what became of a delivery tag.
type tagState uint8

const (
	unsettled tagState = iota
	settled            // the broker has been told
	acked              // the broker is about to be told, by an ack that may be multiple
)

// tagEntry is one delivery tag.
type tagEntry struct {
	state   tagState
	attempt int32  // deliveries to this group under this publication, this one included
	id      string // of the message
}

// tags follows the delivery tags of one channel, which the broker counts from 1. Those below first are settled.
type tags struct {
	first uint64
	next  uint64     // the tag that the broker will use next
	ring  []tagEntry // tag n is at n modulo its length, which is a power of two
}

func newTags() tags { return tags{first: 1, next: 1, ring: make([]tagEntry, 256)} }

// delivered registers tag n, the one after the last.
func (t *tags) delivered(n uint64, e tagEntry) {
	if n-t.first >= uint64(len(t.ring)) {
		grown := make([]tagEntry, 2*len(t.ring))
		for i := t.first; i < t.next; i++ {
			grown[i&uint64(len(grown)-1)] = *t.at(i)
		}
		t.ring = grown
	}
	t.next = n + 1
	*t.at(n) = e
}

func (t *tags) at(n uint64) *tagEntry { return &t.ring[n&uint64(len(t.ring)-1)] }

// open returns the entry of tag n if it was delivered and is not settled, else nil.
func (t *tags) open(n uint64) *tagEntry {
	if n < t.first || n >= t.next || t.at(n).state != unsettled {
		return nil
	}
	return t.at(n)
}

// ackFrame is an acknowledgement to be written.
type ackFrame struct {
	tag      uint64
	multiple bool
}

// flush returns the frames for what was acked since the last flush, which named lists: one, with multiple, for the
// contiguous prefix of settled tags, and one for each tag behind it. None covers an unsettled tag.
func (t *tags) flush(named []uint64) []ackFrame {
	frames := make([]ackFrame, 0, 8)
	last, n := uint64(0), 0
	for t.first < t.next && t.at(t.first).state != unsettled {
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
