package sqllog

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestClock(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c clock
		ask := func(ahead, before, after time.Duration) {
			asked := time.Now()
			time.Sleep(before)
			now := time.Now().Add(ahead).UnixMilli()
			time.Sleep(after)
			c.answered(asked, now)
		}
		ask(time.Hour, 20*time.Millisecond, 20*time.Millisecond)
		if c.likely.Load() != 3_600_000 || c.skew.Load() != 3_599_980 {
			t.Errorf("got %d, at least %d", c.likely.Load(), c.skew.Load())
		}
		// A slow answer says little; what is sure stays sure, whenever within the round trip the clock was read.
		for _, d := range []time.Duration{0, 30 * time.Second} {
			ask(time.Hour, d, 30*time.Second-d)
			if c.likely.Load() != 3_600_000 || c.skew.Load() > 3_600_000 {
				t.Errorf("after a slow answer: %d, at least %d", c.likely.Load(), c.skew.Load())
			}
		}
	})
}
