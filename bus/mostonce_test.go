package bus_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

var mostOnce = group("g", bus.GroupConfig{Workers: 2, Prefetch: 10, Delivery: bus.AtMostOnce})

func TestAtMostOnceAcknowledgesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		var acked record[int]
		b := run(t, bus.Config{Transport: tr, Groups: mostOnce}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(context.Context, placed) error {
				acked.add(len(tr.ackedIDs()))
				return errors.New("lost")
			})
		})
		for n := range 3 {
			publish(t, b, placed{"k", n})
			time.Sleep(time.Hour)
		}
		expect(t, "acknowledged before each", acked.all(), []int{1, 2, 3})
		expect(t, "stats", b.Stats()["g"], bus.GroupStats{Failed: 3})
	})
}

func TestAtMostOnceBoundsWhatIsInHand(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		b := newBus(t, bus.Config{Transport: tr, Groups: mostOnce})
		var seen record[int]
		bus.Handle(b, "g", func(_ context.Context, e placed) error {
			time.Sleep(time.Second)
			seen.add(e.N)
			return nil
		})
		startOnly(t, b)
		for n := range 100 {
			publish(t, b, placed{"hot", n})
		}
		synctest.Wait()
		expect(t, "acknowledged", len(tr.ackedIDs()), 10)
		expect(t, "in flight", b.Stats()["g"].InFlight, 10)
		time.Sleep(4500 * time.Millisecond)
		if _, err := stopWithin(t, b, time.Hour); err != nil {
			t.Errorf("Stop: %v", err)
		}
		// A clean stop handles all that was acknowledged.
		expect(t, "handled", len(seen.all()), len(tr.ackedIDs()))
		if n := len(seen.all()); n > 15 {
			t.Errorf("%d handled: fetching went on", n)
		}
	})
}

func TestAtMostOnceTellsWhatAHardStopLoses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, bus.Config{Groups: mostOnce})
		bus.Handle(b, "g", func(ctx context.Context, _ paid) error {
			<-ctx.Done()
			return ctx.Err()
		})
		startOnly(t, b)
		publish(t, b, paid{1}, paid{2}, paid{3}, paid{4}, paid{5}, paid{6}) // one batch, received as one
		synctest.Wait()
		_, err := stopWithin(t, b, time.Minute)
		expectError(t, err, "4 messages are lost")
		expect(t, "stats", b.Stats()["g"], bus.GroupStats{Failed: 2})
	})
}

// TestAtMostOnceAcknowledgeFails: the transport keeps what is not settled, and nobody else gets it.
func TestAtMostOnceAcknowledgeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		tr := &broker{settle: func(context.Context, []transport.Settlement) error {
			if calls++; calls < 5 {
				return errors.New("broken pipe")
			}
			return nil
		}}
		var seen record[int]
		b := run(t, bus.Config{Transport: tr, Groups: mostOnce}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error { seen.add(e.N); return nil })
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2})
		time.Sleep(time.Hour)
		expect(t, "handled", seen.all(), []int{1, 2})
	})
}

func TestAtMostOnceStopWhileAcknowledgeFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{settle: func(context.Context, []transport.Settlement) error { return errors.New("broken pipe") }}
		b := newBus(t, bus.Config{Transport: tr, Groups: mostOnce})
		bus.Handle(b, "g", func(context.Context, placed) error { t.Error("handled"); return nil })
		startOnly(t, b)
		publish(t, b, placed{"k", 1})
		time.Sleep(time.Second)
		if took, err := stopWithin(t, b, time.Minute); err != nil || took > time.Second {
			t.Errorf("Stop: %v after %v", err, took)
		}
		expect(t, "left", len(tr.waiting), 1)
	})
}
