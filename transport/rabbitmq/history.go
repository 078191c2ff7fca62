package rabbitmq

import "sync"

// historyLimit bounds how many messages a history remembers. Beyond it, it begins anew, and counts are the broker's.
const historyLimit = 1 << 16

// history corrects, within one process, what the broker counts of a queue's deliveries. A quorum queue counts each return
// of a message, whether it was tried or not; a classic queue counts nothing.
type history struct {
	counts bool // the broker does

	mu sync.Mutex
	// n holds by message ID, if the broker counts, the deliveries not to be counted; else the attempts so far.
	n map[string]int32
	// remains is what the last channel left behind; see remnant.
	remains []remnant
}

func newHistory(counts bool) *history { return &history{counts: counts, n: map[string]int32{}} }

// attempt returns which attempt a delivery is, of a message that the broker says was delivered before so often.
func (h *history) attempt(id string, before int) int32 {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.n) == 0 || before == 0 {
		return int32(before) + 1
	}
	n, known := h.n[id]
	switch {
	case h.counts:
		return max(1, int32(before)+1-n)
	case known:
		return n + 1
	}
	return int32(before) + 1
}

// acked forgets a message.
func (h *history) acked(id string) {
	h.mu.Lock()
	if len(h.n) > 0 {
		delete(h.n, id)
	}
	h.mu.Unlock()
}

// requeued notes that attempt was made and the message comes again.
func (h *history) requeued(id string, attempt int32) {
	if h.counts {
		return
	}
	h.mu.Lock()
	h.room()
	h.n[id] = attempt
	h.mu.Unlock()
}

// released notes that attempt was not made and the message comes again.
func (h *history) released(id string, attempt int32) {
	h.mu.Lock()
	h.room()
	if h.counts {
		h.n[id]++
	} else {
		h.n[id] = attempt - 1
	}
	h.mu.Unlock()
}

func (h *history) room() {
	if len(h.n) >= historyLimit {
		clear(h.n)
	}
}
