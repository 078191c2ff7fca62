package bustest

import (
	"fmt"
	"strings"
	"testing/synctest"
	"time"
)

// What Settle takes for a message that never ends.
const (
	// maxFakeTime is how long Settle waits in a bubble, and maxRealTime outside of one.
	maxFakeTime = 365 * 24 * time.Hour
	maxRealTime = 30 * time.Second
	// maxAttempts is for one message, maxChain for events each of which caused the next, maxDeliveries for all.
	maxAttempts   = 1_000
	maxChain      = 1_000
	maxDeliveries = 100_000
)

// Settle returns once nothing is in flight and nothing is scheduled: every message, and every message that its handlers
// have published, has been handled by every group, delays and retries included. In a bubble of testing/synctest it also
// waits until all other goroutines are blocked, and time jumps.
//
// The test fails, with a list of what is left, if that takes more than a year in a bubble or 30 seconds outside of one,
// if a message comes 1,000 times, if 1,000 events each cause the next, or if 100,000 deliveries were made.
func (p *Probe) Settle() {
	p.t.Helper()
	limit := maxRealTime
	if p.bubble {
		limit = maxFakeTime
	}
	deadline := time.NewTimer(limit)
	defer deadline.Stop()
	trouble := ""
	if p.adversary != nil {
		trouble = p.adversary.settle(deadline.C)
	} else {
		trouble = p.watch.settle(deadline.C, p.bubble)
	}
	if trouble == "" {
		return
	}
	var pending []outstanding
	if p.adversary != nil {
		pending = p.adversary.broker.pending()
	} else {
		pending = p.watch.pending()
	}
	if trouble == tooLong {
		trouble = fmt.Sprintf("after %v", limit)
	}
	p.t.Fatalf("bustest: cannot settle, given up %s; %d pending:%s", trouble, len(pending), p.describe(pending))
}

const (
	tooLong = "too long"
	tooMany = "after too many deliveries"
	tooDeep = "after 1000 events of which each caused the next"
)

// outstanding is a message that a group has not done with.
type outstanding struct {
	event, id, key, topic, group string
	attempts                     int // so far
	due                          time.Time
	handling                     bool
}

func (p *Probe) describe(pending []outstanding) string {
	const most = 20
	var s strings.Builder
	for i, o := range pending {
		if i == most {
			fmt.Fprintf(&s, "\n\tand %d more", len(pending)-most)
			break
		}
		fmt.Fprintf(&s, "\n\tevent %q id %s", o.event, o.id)
		if o.key != "" {
			fmt.Fprintf(&s, " key %q", o.key)
		}
		fmt.Fprintf(&s, " group %q: ", o.group)
		switch {
		case o.handling:
			fmt.Fprintf(&s, "attempt %d in hand", o.attempts)
		default:
			fmt.Fprintf(&s, "%d attempts", o.attempts)
			if o.due.After(time.Now()) {
				fmt.Fprintf(&s, ", scheduled for %s", o.due.Format(time.RFC3339Nano))
			}
		}
		if err := p.errors.of(o.group, o.id); err != nil {
			fmt.Fprintf(&s, ", last error: %v", err)
		}
	}
	return s.String()
}

// wait is synctest.Wait. It reports false, and does nothing, outside of a bubble.
func wait() (inBubble bool) {
	defer func() {
		if recover() != nil { // synctest has no other way to tell
			inBubble = false
		}
	}()
	synctest.Wait()
	return true
}
