package billing_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
	billing "github.com/postbus/postbus/examples/testing"
)

// gateway fails as often as it is told to, and remembers what it charged.
type gateway struct {
	failures int
	charged  map[string]int64
}

func (g *gateway) Charge(_ context.Context, orderID string, cents int64) error {
	if g.failures--; g.failures >= 0 {
		return errors.New("no connection")
	}
	g.charged[orderID] = cents
	return nil
}

// The handler alone: a Recorder takes what it publishes.
func TestChargeSaysThatItWasPaid(t *testing.T) {
	var events bustest.Recorder
	s := &billing.Billing{Gateway: &gateway{charged: map[string]int64{}}, Events: &events}
	if err := s.Charge(t.Context(), billing.Placed{OrderID: "o-1", Cents: 995}); err != nil {
		t.Fatal(err)
	}
	if got := bustest.Published[billing.Paid](&events); len(got) != 1 || got[0].OrderID != "o-1" {
		t.Errorf("published %v", got)
	}
}

// The module on a bus, with its retries: within synctest the pauses take no time.
func TestChargeSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bustest.Run(t, func(b *bus.Bus) {
			(&billing.Billing{Gateway: &gateway{failures: 2, charged: map[string]int64{}}, Events: b}).Wire(b)
		})
		p.Publish(billing.Placed{OrderID: "o-1", Cents: 995})
		p.Settle() // nothing in flight, nothing scheduled
		if got := bustest.Published[billing.Paid](p); len(got) != 1 {
			t.Errorf("published %v, want that it was paid, once", got)
		}
	})
}

// The module where duplicates arrive, the order changes and the process dies: its effects must be the same.
func TestChargeStandsWhatABrokerMayDo(t *testing.T) {
	for seed := range uint64(20) {
		synctest.Test(t, func(t *testing.T) {
			g := &gateway{charged: map[string]int64{}}
			p := bustest.Run(t, func(b *bus.Bus) { (&billing.Billing{Gateway: g, Events: b}).Wire(b) }, bustest.Adversarial(seed))
			p.Publish(billing.Placed{OrderID: "o-1", Cents: 995}, billing.Placed{OrderID: "o-2", Cents: 5})
			p.Settle()
			if g.charged["o-1"] != 995 || g.charged["o-2"] != 5 {
				t.Errorf("seed %d: charged %v", seed, g.charged)
			}
		})
	}
}
