package bustest_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
)

// The module under test in the examples of this package.

type Placed struct {
	OrderID string `json:"order_id"`
	Cents   int64  `json:"cents"`
}

func (Placed) EventName() string  { return "orders.placed" }
func (e Placed) EventKey() string { return e.OrderID }

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string { return "billing.paid" }

type Gateway interface {
	Charge(ctx context.Context, orderID string, cents int64) error
}

type Billing struct {
	Gateway Gateway
	Events  bus.Publisher
}

func (s *Billing) Charge(ctx context.Context, e Placed) error {
	if err := s.Gateway.Charge(ctx, e.OrderID, e.Cents); err != nil {
		return err
	}
	return s.Events.Publish(ctx, Paid{OrderID: e.OrderID})
}

func wire(b *bus.Bus, s *Billing) { bus.Handle(b, "billing", s.Charge) }

// flaky is a gateway that is out of order at first.
type flaky struct {
	mu       sync.Mutex
	failures int
}

func (g *flaky) Charge(context.Context, string, int64) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failures > 0 {
		g.failures--
		return errors.New("the gateway is out of order")
	}
	return nil
}

// What the package comment shows.
func TestChargeSurvivesAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := bustest.Run(t, func(b *bus.Bus) { wire(b, &Billing{Gateway: &flaky{failures: 2}, Events: b}) })
		p.Publish(Placed{OrderID: "o1"})
		p.Settle() // nothing in flight, nothing scheduled
		if got := bustest.Published[Paid](p); len(got) != 1 {
			t.Errorf("%d payments, want 1", len(got))
		}
	})
}
