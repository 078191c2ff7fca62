package middleware

import "time"

// tally counts successes and failures over a sliding window, in tenths of it.
type tally struct {
	window  time.Duration
	began   time.Time // the tenths are counted from here
	last    time.Time // of add
	tenths  [10]struct{ successes, failures int }
	current int64 // the number of the tenth that is being filled
}

func newTally(window time.Duration) tally {
	now := time.Now()
	return tally{window: window, began: now, last: now}
}

// add counts a failure or more, and the successes since the last call: when those were nobody has noted, so that they are
// taken to be spread evenly. It returns what the window holds.
func (t *tally) add(now time.Time, successes, failures int) (failed, all int) {
	tenth := max(1, t.window/time.Duration(len(t.tenths)))
	number := max(t.current, int64(now.Sub(t.began)/tenth))
	for i := t.current + 1; i <= min(number, t.current+int64(len(t.tenths))); i++ {
		t.tenths[i%int64(len(t.tenths))] = struct{ successes, failures int }{}
	}
	t.current = number
	if since := now.Sub(t.last); since > t.window {
		successes = int(float64(successes) * float64(t.window) / float64(since))
	}
	t.last = now
	c := &t.tenths[number%int64(len(t.tenths))]
	c.successes += successes
	c.failures += failures
	for i := range t.tenths {
		failed += t.tenths[i].failures
		all += t.tenths[i].successes + t.tenths[i].failures
	}
	return failed, all
}
