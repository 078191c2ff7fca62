package middleware_test

import (
	"context"
	"errors"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

// step drives a breaker: it waits, lets a delivery come, and says whether it must pass.
type step struct {
	after time.Duration
	err   error // of the handler
	pass  bool
	delay time.Duration // that is asked for if it does not pass
}

func repeat(n int, s step) []step {
	all := make([]step, n)
	for i := range all {
		all[i] = s
	}
	return all
}

func join(all ...[]step) (joined []step) {
	for _, s := range all {
		joined = append(joined, s...)
	}
	return joined
}

func TestBreaker(t *testing.T) {
	t.Parallel()
	ok, bad := step{pass: true}, step{pass: true, err: errFlaky}
	open := func(after, delay time.Duration) []step { return []step{{after: after, delay: delay + 1}} }
	for name, tc := range map[string]struct {
		cfg   middleware.BreakerConfig
		steps []step
	}{
		"stays closed":            {steps: repeat(50, ok)},
		"opens after five in row": {steps: join(repeat(5, bad), open(0, 30*time.Second), open(10*time.Second, 20*time.Second), open(20*time.Second, 0))},
		"success in between":      {steps: join(repeat(4, bad), repeat(1, ok), repeat(4, bad), repeat(1, ok))},
		"closes after a probe":    {steps: join(repeat(5, bad), []step{{after: 31 * time.Second, pass: true}}, repeat(4, bad), repeat(1, ok))},
		"opens after a bad probe": {steps: join(repeat(5, bad), []step{{after: 31 * time.Second, pass: true, err: errFlaky}}, open(0, 30*time.Second))},
		"two probes":              {middleware.BreakerConfig{Probes: 2, OpenFor: time.Second}, join(repeat(5, bad), []step{{after: 2 * time.Second, pass: true}}, repeat(1, bad), open(0, time.Second))},
		"own numbers":             {middleware.BreakerConfig{Failures: 1, OpenFor: time.Hour}, join(repeat(1, bad), open(0, time.Hour))},
		"old failures":            {middleware.BreakerConfig{Failures: 2, Window: time.Minute}, join(repeat(1, bad), []step{{after: 2 * time.Minute, pass: true, err: errFlaky}}, repeat(1, ok))},
		"rate": {middleware.BreakerConfig{Rate: 0.5, MinRequests: 6, Failures: 100},
			join(repeat(1, bad), repeat(1, ok), repeat(1, bad), repeat(1, ok), repeat(1, ok), repeat(1, bad), open(0, 30*time.Second))},
		"below the rate": {middleware.BreakerConfig{Rate: 0.5, MinRequests: 2, Failures: 100}, join(repeat(2, ok), repeat(1, bad), repeat(2, ok), repeat(1, bad))},
		"permanent":      {steps: repeat(20, step{pass: true, err: bus.Permanent(errFlaky)})},
		"predicate":      {middleware.BreakerConfig{If: func(err error) bool { return err != errFlaky }}, repeat(20, bad)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var outcome error
				h := middleware.Breaker(tc.cfg)(func(_ context.Context, d *bus.Delivery) error { d.Tries++; return outcome })
				for i, s := range tc.steps {
					time.Sleep(s.after)
					d := delivery()
					outcome = s.err
					err := h(t.Context(), d)
					if s.pass {
						if d.Tries != 1 || err != s.err {
							t.Fatalf("step %d: got %v, want it to pass and return %v", i, err, s.err)
						}
						continue
					}
					delay, asked := bus.RetryDelay(err)
					if d.Tries != 0 || !errors.Is(err, middleware.ErrOpen) || !asked || delay != s.delay {
						t.Fatalf("step %d: passed %d, error %v; want ErrOpen and a retry after %v", i, d.Tries, err, s.delay)
					}
				}
			})
		})
	}
}

// Only one probe is under way at once; and one that panics, ends its goroutine or is interrupted makes room for the next.
func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		probe func(cancel func()) error
		opens bool
	}{
		"succeeds":           {probe: func(func()) error { return nil }},
		"panics":             {probe: func(func()) error { panic("boom") }, opens: true},
		"ends its goroutine": {probe: func(func()) error { runtime.Goexit(); return nil }, opens: true},
		"is interrupted":     {probe: func(cancel func()) error { cancel(); return context.Canceled }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				breaker := middleware.Breaker(middleware.BreakerConfig{Failures: 1, OpenFor: time.Minute, If: func(err error) bool {
					return err == errFlaky || err == context.Canceled
				}})
				_ = breaker(innermost(errFlaky))(t.Context(), delivery())
				time.Sleep(time.Minute + 1)

				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				go func() {
					defer func() { _ = recover() }()
					_ = breaker(func(context.Context, *bus.Delivery) error {
						time.Sleep(time.Second)
						return tc.probe(cancel)
					})(ctx, delivery())
				}()
				synctest.Wait()
				err := breaker(innermost())(t.Context(), delivery())
				if delay, _ := bus.RetryDelay(err); !errors.Is(err, middleware.ErrOpen) || delay != time.Second {
					t.Errorf("a second probe: got %v, want ErrOpen for a second", err)
				}
				time.Sleep(2 * time.Second)
				err = breaker(innermost())(t.Context(), delivery())
				if errors.Is(err, middleware.ErrOpen) != tc.opens {
					t.Errorf("after the probe: got %v, want open: %v", err, tc.opens)
				}
				time.Sleep(time.Minute)
				if err := breaker(innermost())(t.Context(), delivery()); err != nil {
					t.Errorf("a minute later: got %v, want the next probe to pass", err)
				}
			})
		})
	}
}

func TestBreakerThatNeverForgets(t *testing.T) {
	t.Parallel()
	h := middleware.Breaker(middleware.BreakerConfig{Window: math.MaxInt64, OpenFor: math.MaxInt64, Failures: 2})(
		func(context.Context, *bus.Delivery) error { return errFlaky })
	for i, want := range []error{errFlaky, errFlaky, middleware.ErrOpen} {
		if err := h(t.Context(), delivery()); !errors.Is(err, want) {
			t.Errorf("outcome %d is %v, want %v", i, err, want)
		}
	}
}
