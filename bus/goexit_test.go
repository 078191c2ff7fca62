package bus_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
)

func TestGoexitIsAFailedTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var s spy
		b := run(t, bus.Config{
			Middleware: []bus.Middleware{s.middleware}, Groups: group("g", bus.GroupConfig{Workers: 1}),
		}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				if d, _ := bus.DeliveryFrom(ctx); e.N == 1 && d.Attempt < 3 {
					leaveGoroutine()
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2})
		time.Sleep(time.Hour)
		got := s.deliveries.all()
		if len(got) != 4 {
			t.Fatalf("%d deliveries passed the chain, want 4: %v", len(got), got)
		}
		for i, want := range []struct{ attempt, tries int }{{1, 1}, {2, 1}, {3, 1}, {1, 1}} {
			if d := got[i]; d.Attempt != want.attempt || d.Tries != want.tries {
				t.Errorf("delivery %d: attempt %d, tries %d, want %+v", i, d.Attempt, d.Tries, want)
			}
			err := s.errs.all()[i]
			if failed := i < 2; failed != errors.Is(err, bus.ErrGoexit) {
				t.Errorf("delivery %d: %v", i, err)
			} else if failed {
				expectError(t, err, "leaveGoroutine")
			}
		}
		expect(t, "stats", b.Stats()["g"], bus.GroupStats{Handled: 2, Failed: 2})
	})
}

//go:noinline
func leaveGoroutine() { runtime.Goexit() }

func TestAllWorkersGoexitAtOnce(t *testing.T) {
	t.Parallel()
	for _, workers := range []int{1, 8} {
		synctest.Test(t, func(t *testing.T) {
			var seen record[int]
			exits := func(ctx context.Context, n int) error {
				d, _ := bus.DeliveryFrom(ctx)
				time.Sleep(time.Second) // so that all are there
				if d.Attempt == 1 {
					runtime.Goexit()
				}
				seen.add(n)
				return nil
			}
			b := run(t, bus.Config{Groups: group("g", bus.GroupConfig{Workers: workers})}, func(b *bus.Bus) {
				// Over two topics, so that the workers share slots.
				bus.Handle(b, "g", func(ctx context.Context, e paid) error { return exits(ctx, e.N) })
				bus.Handle(b, "g", func(ctx context.Context, e shipped) error { return exits(ctx, e.N) })
			})
			for n := range 20 {
				publish(t, b, paid{n}, shipped{n})
			}
			time.Sleep(time.Hour)
			expect(t, "handled", len(seen.all()), 40)
		})
	}
}

func TestGoexitInMiddleware(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		passes := 0
		exits := func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				if passes++; d.Attempt < 3 {
					runtime.Goexit()
				}
				return next(ctx, d)
			}
		}
		var seen record[int]
		b := run(t, bus.Config{
			Middleware: []bus.Middleware{exits}, Groups: group("g", bus.GroupConfig{Workers: 1}),
		}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error { seen.add(e.N); return nil })
		})
		publish(t, b, placed{"k", 1})
		time.Sleep(time.Hour)
		expect(t, "handled", seen.all(), []int{1})
		if passes > 5 {
			t.Errorf("%d passes for 3 attempts", passes)
		}
	})
}

// TestGoexitSeesTheMessageAsItCame: the chain that tells of the exit runs on the message as it was delivered, not on
// what middleware made of it before.
func TestGoexitSeesTheMessageAsItCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var keys record[string]
		decorate := func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				changed := *d.Message()
				changed.Key += "!"
				keys.add(changed.Key)
				d.SetMessage(&changed)
				return next(ctx, d)
			}
		}
		b := run(t, bus.Config{Middleware: []bus.Middleware{decorate}}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				if d, _ := bus.DeliveryFrom(ctx); d.Attempt == 1 {
					runtime.Goexit()
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1})
		time.Sleep(time.Hour)
		expect(t, "keys", strings.Join(keys.all(), " "), "k! k! k!")
	})
}

func TestGoexitAtMostOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen record[int]
		b := run(t, bus.Config{
			Groups: group("g", bus.GroupConfig{Workers: 2, Delivery: bus.AtMostOnce}),
		}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error {
				seen.add(e.N)
				runtime.Goexit()
				return nil
			})
		})
		for n := range 10 {
			publish(t, b, placed{"k", n})
		}
		time.Sleep(time.Hour)
		expect(t, "handled", seen.all(), []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	})
}
