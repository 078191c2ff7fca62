package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

func TestBackoffGrowsWithinItsBounds(t *testing.T) {
	t.Parallel()
	tests := []struct {
		min, max time.Duration
		bounds   [][2]time.Duration // of the pause after each attempt
	}{
		{0, 0, [][2]time.Duration{{100, 200}, {200, 400}, {400, 800}, {800, 1600}}},
		{10 * time.Millisecond, 25 * time.Millisecond, [][2]time.Duration{{10, 20}, {12, 25}, {12, 25}, {12, 25}}},
		{0, 20 * time.Millisecond, [][2]time.Duration{{20, 20}, {20, 20}, {20, 20}}},
		{2 * time.Minute, 0, [][2]time.Duration{{120_000, 120_000}, {120_000, 120_000}}},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			var times record[time.Time]
			var attempts record[int]
			b := run(t, bus.Config{
				Groups: group("g", bus.GroupConfig{MinBackoff: tt.min, MaxBackoff: tt.max}),
			}, func(b *bus.Bus) {
				bus.Handle(b, "g", func(ctx context.Context, e paid) error {
					times.add(time.Now())
					d, _ := bus.DeliveryFrom(ctx)
					attempts.add(d.Attempt)
					if d.Attempt <= len(tt.bounds) {
						return errors.New("no")
					}
					return nil
				})
			})
			publish(t, b, paid{1})
			time.Sleep(time.Hour)
			at := times.all()
			if len(at) != len(tt.bounds)+1 {
				t.Fatalf("%d attempts, want %d", len(at), len(tt.bounds)+1)
			}
			for i, bound := range tt.bounds {
				// The settlement may wait for a few milliseconds.
				pause, low, high := at[i+1].Sub(at[i]), bound[0]*time.Millisecond, (bound[1]+6)*time.Millisecond
				if pause < low || pause > high {
					t.Errorf("backoff from %v to %v: pause %v after attempt %d, want %v to %v", tt.min, tt.max, pause, i+1, low, high)
				}
				expect(t, "attempt", attempts.all()[i], i+1)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var times record[time.Duration]
		b := run(t, bus.Config{}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(context.Context, paid) error {
				times.add(time.Since(began).Round(time.Second))
				switch len(times.all()) {
				case 1:
					return fmt.Errorf("wrapped: %w", bus.RetryAfter(time.Hour, errors.New("busy")))
				case 2:
					return bus.RetryAfter(0, errors.New("busy"))
				}
				return nil
			})
		})
		publish(t, b, paid{1})
		time.Sleep(24 * time.Hour)
		expect(t, "handled at", times.all(), []time.Duration{0, time.Hour, time.Hour})
	})
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	cause := errors.New("cause")
	if bus.Permanent(nil) != nil || bus.RetryAfter(time.Second, nil) != nil {
		t.Error("a verdict on no error is an error")
	}
	if s := fmt.Errorf("x: %w", bus.SetAside(cause)); !bus.IsSetAside(s) || !errors.Is(s, cause) || bus.SetAside(nil) != nil || bus.IsSetAside(cause) {
		t.Error("SetAside")
	}
	p, r := fmt.Errorf("x: %w", bus.Permanent(cause)), errors.Join(errors.New("y"), bus.RetryAfter(time.Second, cause))
	if !bus.IsPermanent(p) || !errors.Is(p, cause) || bus.IsPermanent(r) || bus.IsPermanent(nil) {
		t.Error("IsPermanent")
	}
	if d, ok := bus.RetryDelay(r); !ok || d != time.Second || !errors.Is(r, cause) {
		t.Errorf("RetryDelay = %v, %v", d, ok)
	}
	if _, ok := bus.RetryDelay(p); ok {
		t.Error("RetryDelay of an error without")
	}
	if !bus.IsPermanent(bus.RetryAfter(time.Second, bus.Permanent(cause))) {
		t.Error("Permanent is hidden by RetryAfter")
	}
}

// TestLoggerMayAskTheBus: a logger is the program's code and is called without a lock.
func TestLoggerMayAskTheBus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &askingHandler{}
		tr := &broker{}
		tr.settle = func(context.Context, []transport.Settlement) error {
			if h.count() < 4 {
				return errors.New("settle fails")
			}
			return nil
		}
		b := newBus(t, bus.Config{Transport: tr, Logger: slog.New(h)})
		h.ask = func() { b.Stats(); bus.Handle(b, "g", func(context.Context, shipped) error { return nil }) }
		bus.Handle(b, "g", func(ctx context.Context, e paid) error {
			if d, _ := bus.DeliveryFrom(ctx); d.Attempt == 1 {
				return errors.New("no")
			}
			return nil
		})
		startOnly(t, b)
		publish(t, b, paid{1})
		time.Sleep(time.Hour)
		expect(t, "acked", len(tr.ackedIDs()), 1)
		_ = b.Stop(t.Context()) // an error: Handle was late
	})
}

// askingHandler is a slog.Handler that calls the bus, but not while it does so already.
type askingHandler struct {
	lines record[string]
	ask   func()
}

func (h *askingHandler) count() int                               { return len(h.lines.all()) }
func (h *askingHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h *askingHandler) WithAttrs([]slog.Attr) slog.Handler       { return h }
func (h *askingHandler) WithGroup(string) slog.Handler            { return h }
func (h *askingHandler) Handle(_ context.Context, r slog.Record) error {
	h.lines.add(r.Message)
	if h.ask != nil && !strings.Contains(r.Message, "wiring") {
		h.ask()
	}
	return nil
}

func TestSettleThatFailsIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls record[time.Time]
		tr := &broker{}
		tr.settle = func(context.Context, []transport.Settlement) error {
			calls.add(time.Now())
			if len(calls.all()) < 10 {
				return errors.New("broken")
			}
			return nil
		}
		var seen record[paid]
		b := run(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Prefetch: 20})},
			func(b *bus.Bus) { bus.Handle(b, "g", seen.handle) })
		for n := range 100 {
			publish(t, b, paid{n})
			synctest.Wait()
		}
		if n := len(calls.all()); n > 3 {
			t.Errorf("%d calls of Settle at once while it fails, want it to back off", n)
		}
		expect(t, "handled before anything is settled", len(seen.all()), 20)
		time.Sleep(time.Hour)
		expect(t, "acked", len(tr.ackedIDs()), 100)
		expect(t, "in flight", b.Stats()["g"], bus.GroupStats{Handled: 100})
	})
}

func TestReceiveRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls record[time.Time]
		tr := &broker{}
		tr.receive = func() error {
			calls.add(time.Now())
			if n := len(calls.all()); n > 2 && n < 9 {
				return errors.New("connection lost")
			}
			return nil
		}
		var seen record[paid]
		b := run(t, bus.Config{Transport: tr}, func(b *bus.Bus) { bus.Handle(b, "g", seen.handle) })
		for n := range 5 {
			publish(t, b, paid{n})
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour)
		expect(t, "acked", len(tr.ackedIDs()), 5)
	})
}

func TestSubscriptionClosedFromOutside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := &askingHandler{}
		tr := &broker{}
		b := newBus(t, bus.Config{Transport: tr, Logger: slog.New(h)})
		bus.Handle(b, "g", func(context.Context, paid) error { return nil })
		startOnly(t, b)
		_ = tr.subs[0].Close()
		time.Sleep(time.Hour)
		expect(t, "log lines", h.count(), 1)
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
}

// TestPanicIsTheProgramsOwn: without recover middleware a panic of a handler crashes the program, its stack in sight.
func TestPanicIsTheProgramsOwn(t *testing.T) {
	t.Parallel()
	if os.Getenv("POSTBUS_TEST_PANIC") != "" {
		b := run(t, bus.Config{}, func(b *bus.Bus) { bus.Handle(b, "g", explode) })
		publish(t, b, paid{1})
		select {}
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestPanicIsTheProgramsOwn$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), "POSTBUS_TEST_PANIC=1")
	out, err := cmd.CombinedOutput()
	if err == nil {
		t.Error("the program survived")
	}
	expectError(t, errors.New(string(out)), "panic: boom", "bus_test.explode")
}

func explode(context.Context, paid) error { panic("boom") }
