package memory

import "github.com/postbus/postbus/transport"

// delivered holds what a group has been handed and has not settled.
//
// Deliveries from the chunks have consecutive tags, so that a window over them finds one without searching. What comes
// again, and the stragglers that would make the window long, are in a map.
type delivered struct {
	n int // unsettled

	window []*transport.Delivery // nil where settled
	start  int                   // of the window in its slice
	base   uint64                // the tag at start
	others map[uint64]given
	agains uint64
}

// given is a message that was delivered, with its place in the order of publishing.
type given struct {
	*transport.Delivery
	seq     uint64
	attempt int // of the next delivery
}

const (
	// againBit marks the tags of deliveries that are not the first.
	againBit = 1 << 63
	// windowMax is how many tags the window spans at most.
	windowMax = 4096
)

func newDelivered() delivered { return delivered{base: 1, others: map[uint64]given{}} }

// add notes deliveries from a chunk. They are the next in the order of their tags.
func (d *delivered) add(fresh []transport.Delivery) {
	d.n += len(fresh)
	for len(d.window)-d.start+len(fresh) > windowMax {
		if first := d.window[d.start]; first != nil {
			d.others[first.Tag] = given{first, first.Tag, first.Attempt}
		}
		d.drop()
	}
	if d.start > 0 && len(d.window)+len(fresh) > cap(d.window) {
		kept := copy(d.window, d.window[d.start:])
		clear(d.window[kept:])
		d.window, d.start = d.window[:kept], 0
	}
	for i := range fresh {
		d.window = append(d.window, &fresh[i])
	}
}

// again makes a new delivery of one that was given back.
func (d *delivered) again(g given) transport.Delivery {
	d.n++
	d.agains++
	next := *g.Delivery
	next.Tag, next.Attempt = d.agains|againBit, g.attempt
	d.others[next.Tag] = g
	return next
}

// take removes a delivery. It reports whether the tag was valid.
func (d *delivered) take(tag uint64) (given, bool) {
	if i := tag - d.base; tag >= d.base && i < uint64(len(d.window)-d.start) {
		found := d.window[d.start+int(i)]
		if found == nil {
			return given{}, false
		}
		d.window[d.start+int(i)] = nil
		for d.start < len(d.window) && d.window[d.start] == nil {
			d.drop()
		}
		d.n--
		return given{found, found.Tag, found.Attempt}, true
	}
	g, ok := d.others[tag]
	if ok {
		delete(d.others, tag)
		d.n--
	}
	return g, ok
}

// drop moves the start of the window on.
func (d *delivered) drop() {
	d.window[d.start] = nil
	d.start++
	d.base++
}

// tags returns the tags of all that is unsettled.
func (d *delivered) tags() []uint64 {
	tags := make([]uint64, 0, d.n)
	for tag := range d.others {
		tags = append(tags, tag)
	}
	for _, kept := range d.window[d.start:] {
		if kept != nil {
			tags = append(tags, kept.Tag)
		}
	}
	return tags
}

// seqHeap orders by the order of publishing.
type seqHeap []given

func (h seqHeap) Len() int           { return len(h) }
func (h seqHeap) Less(i, j int) bool { return h[i].seq < h[j].seq }
func (h seqHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *seqHeap) Push(v any)        { *h = append(*h, v.(given)) }
func (h *seqHeap) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	(*h)[last] = given{}
	*h = (*h)[:last]
	return v
}
