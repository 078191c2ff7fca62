package watermill

import "sync"

// attempts counts the deliveries of messages that have not been acknowledged. Watermill does not: a message that comes
// again is known by its ID. To stay small, it forgets the messages that have not come for the longest time: those went
// to another process.
type attempts struct {
	mu         sync.Mutex
	young, old map[string]int
}

// attemptsKept is how many messages are remembered at least.
const attemptsKept = 8192

// add counts a delivery and returns how many there have been.
func (a *attempts) add(id string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.change(id, 1)
}

// release takes one back.
func (a *attempts) release(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.change(id, -1) <= 0 {
		delete(a.young, id)
	}
}

func (a *attempts) forget(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.young, id)
	delete(a.old, id)
}

func (a *attempts) change(id string, by int) int {
	n, ok := a.young[id]
	if !ok {
		n = a.old[id]
		delete(a.old, id)
	}
	if a.young == nil || len(a.young) >= attemptsKept {
		a.old, a.young = a.young, map[string]int{}
	}
	a.young[id] = n + by
	return n + by
}
