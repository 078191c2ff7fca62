// Package billing is a module with the tests that one writes for it: look at billing_test.go.
package billing

import (
	"context"
	"errors"

	"github.com/postbus/postbus/bus"
)

type Placed struct {
	OrderID string `json:"order_id"`
	Cents   int64  `json:"cents"`
}

func (Placed) EventName() string  { return "orders.placed" }
func (e Placed) EventKey() string { return e.OrderID }

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string  { return "payments.paid" }
func (e Paid) EventKey() string { return e.OrderID }

var ErrDeclined = errors.New("card declined")

// Gateway moves the money, once for each order however often it is asked.
type Gateway interface {
	Charge(ctx context.Context, orderID string, cents int64) error
}

type Billing struct {
	Gateway Gateway
	Events  bus.Publisher
}

func (s *Billing) Wire(b *bus.Bus) { bus.Handle(b, "billing", s.Charge) }

func (s *Billing) Charge(ctx context.Context, e Placed) error {
	switch err := s.Gateway.Charge(ctx, e.OrderID, e.Cents); {
	case errors.Is(err, ErrDeclined):
		return bus.Permanent(err)
	case err != nil:
		return err
	}
	return s.Events.Publish(ctx, Paid{OrderID: e.OrderID})
}
