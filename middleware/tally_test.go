package middleware

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Whatever the times: failures of the last nine tenths of the window are counted, and none that are older than it.
func TestTally(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tl := newTally(time.Minute)
		now := tl.began
		var failures []time.Time
		for _, gap := range rapid.SliceOf(rapid.IntRange(0, 100)).Draw(t, "gaps in s") {
			now = now.Add(time.Duration(gap) * time.Second)
			failures = append(failures, now)
			least, most := 0, 0
			for _, at := range failures {
				if now.Sub(at) <= 54*time.Second {
					least++
				}
				if now.Sub(at) <= time.Minute {
					most++
				}
			}
			successes := rapid.IntRange(0, 50).Draw(t, "successes")
			failed, all := tl.add(now, successes, 1)
			if failed < least || failed > most || all < failed {
				t.Fatalf("counted %d failures of %d, want %d to %d", failed, all, least, most)
			}
		}
	})
}
