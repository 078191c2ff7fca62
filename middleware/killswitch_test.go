package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
)

// An outage pauses the group: what is in the topic waits, is probed with one delivery at a time, and is handled in the end.
func TestKillSwitchOnABus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const messages = 300
		k := middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: quiet, MinDeliveries: 10, Pause: time.Minute})
		w, healthy := &world{}, atomic.Bool{}
		chain := w.standard(middleware.StandardConfig{KillSwitch: k, Attempts: 1, Retry: middleware.RetryConfig{Attempts: 1}})
		run(t, w, chain, bus.GroupConfig{Workers: 4}, func(context.Context, int) error {
			if healthy.Load() {
				return nil
			}
			return bus.Permanent(errFlaky)
		})
		for range messages {
			if err := w.Publish(t.Context(), placed{"o1"}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		quarantined := func() int { ids, _ := w.ward.content(); return len(ids) }
		first := quarantined()
		if first < 10 || first > 10+4 { // those that ran already
			t.Fatalf("%d messages went to quarantine, want 10 and the other workers' at most", first)
		}
		pause, paused := k.Paused()["billing"]
		if !paused || !errors.Is(pause.Cause, errFlaky) || pause.Until.Sub(pause.Since) != time.Minute {
			t.Errorf("the state is %+v", k.Paused())
		}
		if h := w.Health(t.Context()); !errors.Is(h.Groups[0].Paused, errFlaky) || len(h.Concerns()) != 1 || h.Ready() != nil {
			t.Errorf("the health is %+v", h)
		}
		time.Sleep(10*time.Minute + time.Second)
		synctest.Wait()
		if got := quarantined(); got != first+10 {
			t.Errorf("after ten pauses %d messages are in quarantine, want one for each more than %d", got, first)
		}
		healthy.Store(true)
		began := time.Now()
		if err := w.transport.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Minute || quarantined() != first+10 {
			t.Errorf("it went on after %v, with %d in quarantine; want within a minute, and no more", took, quarantined())
		}
		if got := w.tries.Load(); got != messages {
			t.Errorf("%d tries, want each message tried once", got)
		}
		if h := w.Health(t.Context()); len(k.Paused()) > 0 || h.Groups[0].Paused != nil {
			t.Errorf("paused: %v, %+v", k.Paused(), h)
		}
	})
}

// A stop ends the wait at once, and the messages come to the next bus with the same attempt.
func TestKillSwitchGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		k := middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: quiet, MinDeliveries: 1, Pause: time.Hour})
		_ = k.Middleware(innermost(errFlaky))(t.Context(), bus.NewDelivery(&transport.Message{ID: "x"}, "orders", "billing", 1))
		w := &world{}
		run(t, w, w.standard(middleware.StandardConfig{KillSwitch: k, Attempts: 1}), bus.GroupConfig{}, func(context.Context, int) error { return nil })
		if err := w.Publish(t.Context(), placed{"o1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		began := time.Now()
		if err := w.Stop(t.Context()); err != nil || time.Since(began) > 0 {
			t.Errorf("Stop returned %v after %v", err, time.Since(began))
		}
		if ids, _ := w.ward.content(); w.tries.Load() != 0 || len(ids) > 0 {
			t.Errorf("%d tries, quarantined %v", w.tries.Load(), ids)
		}
		w.wantAgain(t)
	})
}

func TestKillSwitch(t *testing.T) {
	t.Parallel()
	type outcomes []error
	many := func(n int, err error) (all outcomes) {
		for range n {
			all = append(all, err)
		}
		return all
	}
	for name, tc := range map[string]struct {
		cfg    middleware.KillSwitchConfig
		steps  []outcomes    // with a time in between
		gap    time.Duration // that time
		pauses bool
	}{
		"success":              {steps: []outcomes{many(100, nil)}},
		"all fail":             {steps: []outcomes{many(20, errFlaky)}, pauses: true},
		"too few":              {steps: []outcomes{many(19, errFlaky)}},
		"half":                 {steps: []outcomes{many(10, nil), many(10, errFlaky)}, pauses: true},
		"less than half":       {steps: []outcomes{many(100, nil), many(99, errFlaky)}},
		"own numbers":          {cfg: middleware.KillSwitchConfig{Rate: 0.1, MinDeliveries: 50}, steps: []outcomes{many(90, nil), many(10, errFlaky)}, pauses: true},
		"below own numbers":    {cfg: middleware.KillSwitchConfig{Rate: 0.1, MinDeliveries: 50}, steps: []outcomes{many(91, nil), many(10, errFlaky)}},
		"set aside":            {steps: []outcomes{many(20, bus.SetAside(errFlaky))}, pauses: true},
		"others":               {cfg: middleware.KillSwitchConfig{If: func(err error) bool { return !bus.IsPermanent(err) }}, steps: []outcomes{many(50, bus.Permanent(errFlaky))}},
		"old failures":         {steps: []outcomes{many(19, errFlaky), many(19, errFlaky)}, gap: 2 * time.Minute},
		"within the window":    {steps: []outcomes{many(19, errFlaky), many(1, errFlaky)}, gap: 30 * time.Second, pauses: true},
		"successes of old":     {steps: []outcomes{many(1000, nil), many(1, errFlaky), many(20, errFlaky)}, gap: 90 * time.Minute, pauses: true},
		"successes of a while": {steps: []outcomes{append(many(100, nil), errFlaky), many(90, errFlaky)}, gap: 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tc.cfg.Logger = quiet
				k := middleware.NewKillSwitch(tc.cfg)
				for i, step := range tc.steps {
					if i > 0 {
						time.Sleep(tc.gap)
					}
					for j, err := range step {
						if len(k.Paused()) > 0 {
							t.Fatalf("paused before outcome %d of step %d", j, i)
						}
						if got := k.Middleware(innermost(err))(t.Context(), delivery()); got != err {
							t.Fatalf("got %v, want %v as it is", got, err)
						}
					}
				}
				if paused := len(k.Paused()) > 0; paused != tc.pauses {
					t.Errorf("paused: %v, want %v", paused, tc.pauses)
				}
			})
		})
	}
}

// Groups are judged by themselves.
func TestKillSwitchPerGroup(t *testing.T) {
	t.Parallel()
	k := middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: quiet, MinDeliveries: 1, Pause: time.Hour})
	h := k.Middleware(innermost(errFlaky))
	_ = h(t.Context(), delivery())
	other := bus.NewDelivery(&transport.Message{ID: "m2"}, "orders", "audit", 1)
	if err := k.Middleware(innermost())(t.Context(), other); err != nil {
		t.Errorf("the other group: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if err := h(ctx, delivery()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the paused group: %v, want it to wait", err)
	}
	if paused := k.Paused(); len(paused) != 1 || paused["billing"].Since.IsZero() {
		t.Errorf("paused: %v, want billing", paused)
	}
}

// A probe that panics, ends its goroutine or is interrupted does not leave the group waiting for it.
func TestKillSwitchProbes(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		probe func(cancel func()) error
		after time.Duration // the next one passes
	}{
		"succeeds":           {probe: func(func()) error { return nil }},
		"fails":              {probe: func(func()) error { return errFlaky }, after: time.Minute},
		"panics":             {probe: func(func()) error { panic("boom") }, after: time.Minute},
		"ends its goroutine": {probe: func(func()) error { runtime.Goexit(); return nil }, after: time.Minute},
		"is interrupted":     {probe: func(cancel func()) error { cancel(); return context.Canceled }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				k := middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: quiet, MinDeliveries: 1, Pause: time.Minute})
				_ = k.Middleware(innermost(errFlaky))(t.Context(), delivery())
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				var all sync.WaitGroup
				all.Go(func() {
					defer func() { _ = recover() }()
					_ = k.Middleware(func(context.Context, *bus.Delivery) error {
						time.Sleep(time.Second)
						return tc.probe(cancel)
					})(ctx, delivery())
				})
				time.Sleep(time.Minute + time.Second/2) // the probe is under way
				began, passed := time.Now(), time.Duration(0)
				all.Go(func() {
					_ = k.Middleware(func(context.Context, *bus.Delivery) error { passed = time.Since(began); return nil })(t.Context(), delivery())
				})
				all.Wait()
				if want := time.Second/2 + tc.after; passed != want {
					t.Errorf("the next delivery passed after %v, want %v", passed, want)
				}
			})
		})
	}
}

func TestKillSwitchLogs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		k := middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: slog.New(slog.NewTextHandler(&out, nil)), MinDeliveries: 1, Pause: time.Minute})
		for _, err := range []error{errFlaky, errFlaky, nil} {
			_ = k.Middleware(innermost(err))(t.Context(), delivery())
		}
		lines := strings.Split(strings.TrimSpace(out.String()), "\n")
		if len(lines) != 3 {
			t.Fatalf("lines: %q", lines)
		}
		for i, want := range []string{"level=ERROR", "level=WARN", "level=INFO"} {
			if !strings.Contains(lines[i], want) || !strings.Contains(lines[i], "group=billing") || i < 2 && !strings.Contains(lines[i], "error=flaky") {
				t.Errorf("line %d is %s, want %s", i, lines[i], want)
			}
		}
	})
}

// However deliveries, failures and pauses interleave: there is one probe at a time, none passes while the group is
// paused, and all are through in the end.
func TestKillSwitchInterleavings(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		type plan struct {
			at, takes time.Duration
			fails     bool
		}
		plans := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) plan {
			return plan{
				at:    time.Duration(rapid.IntRange(0, 300).Draw(t, "at")) * time.Second,
				takes: time.Duration(rapid.IntRange(0, 90).Draw(t, "takes")) * time.Second,
				fails: rapid.Bool().Draw(t, "fails"),
			}
		}), 1, 40).Draw(rt, "plans")
		synctest.Test(t, func(t *testing.T) {
			k := middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: quiet, MinDeliveries: 3, Pause: time.Minute})
			var mu sync.Mutex
			var probes, through int
			var all sync.WaitGroup
			for _, p := range plans {
				all.Go(func() {
					time.Sleep(p.at)
					_ = k.Middleware(func(context.Context, *bus.Delivery) error {
						mu.Lock()
						pause, paused := k.Paused()["billing"]
						if paused = paused && time.Now().After(pause.Since); paused { // else it can have entered before
							if probes++; probes > 1 {
								t.Errorf("%d probes at once", probes)
							}
							if time.Now().Before(pause.Until) {
								t.Errorf("passed %v before the end of the pause", time.Until(pause.Until))
							}
						}
						mu.Unlock()
						time.Sleep(p.takes)
						mu.Lock()
						defer mu.Unlock()
						if through++; paused {
							probes--
						}
						if p.fails {
							return errFlaky
						}
						return nil
					})(t.Context(), delivery())
				})
			}
			all.Wait()
			if through != len(plans) {
				t.Errorf("%d of %d are through", through, len(plans))
			}
		})
	})
}

func TestKillSwitchAllocates(t *testing.T) { // not parallel: it counts allocations
	wantNoAllocs(t, middleware.NewKillSwitch(middleware.KillSwitchConfig{}).Middleware(innermost()))
}

func ExampleKillSwitch() {
	ks := middleware.NewKillSwitch(middleware.KillSwitchConfig{
		Rate:          0.5, // half of the deliveries
		MinDeliveries: 3,   // of three at least
		Pause:         10 * time.Millisecond,
		Logger:        slog.New(slog.DiscardHandler),
	})
	down := true
	handle := ks.Middleware(func(context.Context, *bus.Delivery) error {
		if down {
			return bus.SetAside(errors.New("gateway is down")) // as Quarantined does
		}
		return nil
	})
	deliver := func() error {
		return handle(context.Background(), bus.NewDelivery(&transport.Message{ID: "1"}, "orders", "billing", 1))
	}
	for range 3 {
		fmt.Println(deliver())
	}
	for group, pause := range ks.Paused() { // for a health check
		fmt.Println(group, "is paused:", pause.Cause)
	}
	down = false
	fmt.Println("after a pause:", deliver())
	// Output:
	// gateway is down
	// gateway is down
	// gateway is down
	// billing is paused: gateway is down
	// after a pause: <nil>
}
