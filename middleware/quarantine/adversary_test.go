package quarantine_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
)

// TestParkedKeysUnderAnAdversary holds the promise of parked keys to a transport that brings messages again, and to
// processes that die at any step: each message of a key is handled, none before the one before it was.
func TestParkedKeysUnderAnAdversary(t *testing.T) {
	t.Parallel()
	for seed := uint64(1); seed <= 25; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				db, err := store.Open(t.Context(), "sqlite::memory:")
				if err != nil {
					t.Fatal(err)
				}
				defer db.Close()
				h := &till{}
				h.breaks("a2", bus.Permanent(errBroken))
				h.breaks("b1", bus.Permanent(errBroken))
				var s *quarantine.Store
				p := bustest.Run(t, func(b *bus.Bus) { bus.Handle(b, "billing", h.handle) }, bustest.Adversarial(seed),
					bustest.Config(func(c *bus.Config) {
						s = newStore(t, db, quarantine.Config{Transport: c.Transport, ParkKeys: []string{"billing"}})
						c.Middleware = middleware.Standard(middleware.StandardConfig{
							Quarantine: s, Log: middleware.LogConfig{Logger: quiet}, Retry: middleware.RetryConfig{Attempts: 1},
						})
					}))
				for n := 1; n <= 5; n++ {
					p.Publish(step{"a", n}, step{"b", n}, step{"c", n})
				}
				p.Settle()
				for _, broken := range []string{"a4", "", ""} {
					h.breaks("a2", nil)
					h.breaks("b1", nil)
					h.breaks("a4", nil)
					if broken != "" {
						h.breaks(broken, bus.Permanent(errBroken))
					}
					replay(t, s, everything)
					for range 3 { // what a process that died was to publish is published after its lease
						p.Settle()
						time.Sleep(20 * time.Minute)
						quarantine.Resume(t, s)
					}
					p.Settle()
				}
				for _, order := range []string{"a", "b", "c"} {
					got := h.of(order)
					var firsts []int
					for _, n := range got {
						if !slices.Contains(firsts, n) {
							firsts = append(firsts, n)
						}
					}
					if !slices.Equal(firsts, []int{1, 2, 3, 4, 5}) {
						t.Errorf("order %s was handled as %v, want each of 1 to 5, first in this order", order, got)
					}
				}
				if n := quarantine.Lines(t, db); n != 0 {
					t.Errorf("%d keys are parked still: %+v", n, list(t, s, quarantine.Filter{Status: quarantine.Parked}))
				}
			})
		})
	}
}
