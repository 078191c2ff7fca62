package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
)

func TestMiddlewareOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var steps record[string]
		step := func(name string) bus.Middleware {
			return func(next bus.Handler) bus.Handler {
				return func(ctx context.Context, d *bus.Delivery) error {
					steps.add(fmt.Sprintf("%s %s tries %d", name, d.Group, d.Tries))
					return next(ctx, d)
				}
			}
		}
		b := run(t, bus.Config{
			Middleware: []bus.Middleware{step("1"), step("2")},
			Groups:     group("g", bus.GroupConfig{Middleware: []bus.Middleware{bus.Chain(step("3"), twice), step("4")}}),
		}, func(b *bus.Bus) { bus.Handle(b, "g", handlePaid) })
		publish(t, b, paid{1})
		synctest.Wait()
		expect(t, "steps", steps.all(), []string{"1 g tries 0", "2 g tries 0", "3 g tries 0", "4 g tries 0", "4 g tries 1"})
	})
}

func twice(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		return errors.Join(next(ctx, d), next(ctx, d))
	}
}

// TestWhatOnlyWaitsGivesWay to a stop, and its delivery goes back untried.
func TestWhatOnlyWaitsGivesWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		b := newBus(t, bus.Config{Transport: tr})
		bus.Handle(b, "g", func(ctx context.Context, e placed) error {
			if e.N == 2 {
				time.Sleep(time.Minute)
				return errors.New("a failure of its own")
			}
			select {
			case <-bus.Stopping(ctx):
				return fmt.Errorf("waiting for a turn: %w", bus.ErrStopped)
			case <-time.After(time.Hour):
				return nil
			}
		})
		startOnly(t, b)
		publish(t, b, placed{"a", 1}, placed{"b", 2})
		synctest.Wait()
		took, err := stopWithin(t, b, time.Hour)
		if err != nil {
			t.Errorf("Stop: %v", err)
		}
		expect(t, "time", took, time.Minute)
		var attempts []int
		for _, d := range tr.waiting {
			attempts = append(attempts, d.Attempt)
		}
		expect(t, "attempts of what is left", attempts, []int{1, 2})
	})
}

func TestAtMostOnceGivesWayToNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := run(t, bus.Config{Groups: mostOnce}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, _ paid) error {
				if bus.Stopping(ctx) != nil {
					t.Error("there is a channel, but the message would be lost")
				}
				return nil
			})
		})
		publish(t, b, paid{1})
		synctest.Wait()
		if bus.Stopping(t.Context()) != nil {
			t.Error("a channel outside of a bus")
		}
	})
}
