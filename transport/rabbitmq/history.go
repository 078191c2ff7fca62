package rabbitmq

import (
	"sync"
	"sync/atomic"
)

// historyLimit bounds how many messages a history remembers. Beyond it, it begins anew, and counts are the broker's.
const historyLimit = 1 << 16

// history corrects, within one process, what the broker counts of a queue's deliveries. A quorum queue counts each return
// of a message, whether it was tried or not, and does not see those within a subscription; a classic queue counts nothing.
type history struct {
	counts bool        // the broker does
	probed atomic.Bool // a probation is over

	mu sync.Mutex
	// n holds by message ID, if the broker counts, how many of its deliveries are no attempts (less than 0: how many attempts
	// it has not seen); else the attempts so far.
	n map[string]int32
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

// returned notes that the broker has a message back, which it brings again as delivered once more. Attempt is that of its
// last delivery, which was made if tried; unseen are the attempts before that one which the broker knows nothing of.
func (h *history) returned(id string, attempt, unseen int32, tried bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.n) >= historyLimit {
		clear(h.n)
	}
	switch {
	case h.counts && tried:
		h.n[id] -= unseen
	case h.counts:
		h.n[id] += 1 - unseen
	case tried:
		h.n[id] = attempt
	default:
		h.n[id] = attempt - 1
	}
	if h.counts && h.n[id] == 0 {
		delete(h.n, id)
	}
}
