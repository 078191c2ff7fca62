package middleware_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/middleware"
)

func TestThrottle(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, tc := range map[string]struct {
		cfg     middleware.ThrottleConfig
		arrive  []time.Duration
		through []time.Duration
	}{
		"no limit":        {arrive: []time.Duration{0, 0, 0}, through: []time.Duration{0, 0, 0}},
		"one at a time":   {middleware.ThrottleConfig{Rate: 10}, []time.Duration{0, 0, 0, 50 * ms}, []time.Duration{0, 100 * ms, 200 * ms, 300 * ms}},
		"after a pause":   {middleware.ThrottleConfig{Rate: 10}, []time.Duration{0, 950 * ms, 950 * ms}, []time.Duration{0, 950 * ms, 1050 * ms}},
		"burst":           {middleware.ThrottleConfig{Rate: 10, Burst: 3}, []time.Duration{0, 0, 0, 0, 0}, []time.Duration{0, 0, 0, 100 * ms, 200 * ms}},
		"burst again":     {middleware.ThrottleConfig{Rate: 10, Burst: 2}, []time.Duration{0, 0, time.Hour, time.Hour, time.Hour}, []time.Duration{0, 0, time.Hour, time.Hour, time.Hour + 100*ms}},
		"less than one/s": {middleware.ThrottleConfig{Rate: 0.1}, []time.Duration{0, 0}, []time.Duration{0, 10 * time.Second}},
		"huge":            {middleware.ThrottleConfig{Rate: 1e300, Burst: 1 << 62}, []time.Duration{0, 0}, []time.Duration{0, 0}},
		"tiny":            {middleware.ThrottleConfig{Rate: 1e-300}, []time.Duration{0, 0}, []time.Duration{0, 1 << 60}},
		"tiny with burst": {middleware.ThrottleConfig{Rate: 1e-300, Burst: 1 << 62}, []time.Duration{0, 0}, []time.Duration{0, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				h, begin := middleware.Throttle(tc.cfg)(innermost()), time.Now()
				var mu sync.Mutex
				var got []time.Duration
				var all sync.WaitGroup
				for _, at := range tc.arrive {
					all.Go(func() {
						time.Sleep(at)
						if err := h(t.Context(), delivery()); err != nil {
							t.Error(err)
						}
						mu.Lock()
						defer mu.Unlock()
						got = append(got, time.Since(begin))
					})
				}
				all.Wait()
				if !slices.Equal(got, tc.through) {
					t.Errorf("they passed at %v, want %v", got, tc.through)
				}
			})
		})
	}
}

func TestThrottleGivesUpItsPlace(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := middleware.Throttle(middleware.ThrottleConfig{Rate: 1})(innermost())
		if err := h(t.Context(), delivery()); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		d, begin := delivery(), time.Now()
		if err := h(ctx, d); !errors.Is(err, context.DeadlineExceeded) || d.Tries != 0 || time.Since(begin) != 100*time.Millisecond {
			t.Errorf("got %v and %d tries after %v, want to stop waiting with the context", err, d.Tries, time.Since(begin))
		}
		if err := h(t.Context(), delivery()); err != nil || time.Since(begin) != time.Second {
			t.Errorf("got %v after %v, want the place of the one that gave up", err, time.Since(begin))
		}
	})
}

func TestThrottleAllocates(t *testing.T) { // not parallel: it counts allocations
	wantNoAllocs(t, middleware.Throttle(middleware.ThrottleConfig{Rate: 1e9})(innermost()))
}
