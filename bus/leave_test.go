package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// TestRetryAfterLeaves: a message that waits for long holds up neither its key nor a full Prefetch, and comes again to its
// group alone, with its attempts counted on.
func TestRetryAfterLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var billing, audit record[string]
		ids := map[string]bool{}
		b := run(t, bus.Config{Groups: group("billing", bus.GroupConfig{Workers: 1, Prefetch: 2})}, func(b *bus.Bus) {
			bus.Handle(b, "billing", func(ctx context.Context, e placed) error {
				d, _ := bus.DeliveryFrom(ctx)
				ids[d.Message().ID] = true
				billing.add(fmt.Sprintf("%d/%d@%v", e.N, d.Attempt, time.Since(began).Truncate(time.Minute)))
				if e.N < 4 && d.Attempt < 3 {
					return bus.RetryAfter(time.Hour, errors.New("busy"))
				}
				return nil
			})
			bus.Handle(b, "audit", func(_ context.Context, e placed) error { audit.add(fmt.Sprint(e.N)); return nil })
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2}, placed{"k", 3}, placed{"k", 4})
		time.Sleep(24 * time.Hour)
		expect(t, "handled", billing.all(), []string{"1/1@0s", "2/1@0s", "3/1@0s", "4/1@0s",
			"1/2@1h0m0s", "2/2@1h0m0s", "3/2@1h0m0s", "1/3@2h0m0s", "2/3@2h0m0s", "3/3@2h0m0s"})
		expect(t, "the other group's", audit.all(), []string{"1", "2", "3", "4"})
		expect(t, "ids", len(ids), 4)
		s := b.Stats()["billing"]
		expect(t, "stats", []uint64{s.Handled, s.Failed, uint64(s.InFlight)}, []uint64{4, 6, 0})
	})
}

// refusing is a transport that takes nothing for later.
type refusing struct{ *memory.Transport }

func (r refusing) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if !msgs[0].NotBefore.IsZero() {
		return errors.New("disk full")
	}
	return r.Transport.Publish(ctx, topic, msgs)
}

// TestRetryAfterThatCannotLeave: what the transport does not take waits in its place, and is not lost.
func TestRetryAfterThatCannotLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := refusing{memory.New(memory.Config{})}
		defer tr.Close()
		began := time.Now()
		var seen record[string]
		b := run(t, bus.Config{Transport: tr}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				d, _ := bus.DeliveryFrom(ctx)
				seen.add(fmt.Sprintf("%d/%d@%v", e.N, d.Attempt, time.Since(began).Truncate(time.Minute)))
				if e.N == 1 && d.Attempt == 1 {
					return bus.RetryAfter(time.Hour, errors.New("busy"))
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2})
		time.Sleep(24 * time.Hour)
		expect(t, "handled", seen.all(), []string{"1/1@0s", "1/2@1h0m0s", "2/1@1h0m0s"})
	})
}

// TestSetAside: the delivery is acknowledged, the key goes on, and middleware outside sees the error.
func TestSetAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("poison")
		var seen spy
		var handled record[int]
		b := run(t, bus.Config{Middleware: []bus.Middleware{seen.middleware}}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error {
				handled.add(e.N)
				if e.N == 1 {
					return bus.SetAside(bus.Permanent(cause))
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2})
		time.Sleep(time.Hour)
		expect(t, "handled", handled.all(), []int{1, 2})
		if errs := seen.errs.all(); !errors.Is(errs[0], cause) || errs[1] != nil {
			t.Errorf("outside, the errors are %v", errs)
		}
		s := b.Stats()["g"]
		expect(t, "stats", []uint64{s.Handled, s.SetAside, s.Failed, uint64(s.InFlight)}, []uint64{1, 1, 0, 0})
	})
}
