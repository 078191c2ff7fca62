// Package orders takes orders on and leads each to its end: it tells the other modules, by events, how far an order has
// come, and listens to what they make of it.
package orders

import (
	"context"
	"fmt"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/inventory/stockevents"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
)

// Group is the name under which the module consumes.
const Group = "orders"

// Module is the orders module.
type Module struct {
	events bus.Publisher
	book   book
}

// New makes the module; it publishes to events.
func New(events bus.Publisher) *Module {
	return &Module{events: events, book: book{orders: map[string]Order{}, duplicates: map[string]bool{}}}
}

// Wire declares the module's handlers.
func (m *Module) Wire(b *bus.Bus) {
	bus.Handle(b, Group, m.submitted)
	bus.Handle(b, Group, m.reserved)
	bus.Handle(b, Group, m.refused)
	bus.Handle(b, Group, m.charged)
	bus.Handle(b, Group, m.declined)
	bus.Handle(b, Group, m.shipped)
}

// Ledger returns a copy of the books.
func (m *Module) Ledger() Ledger { return m.book.ledger() }

// Counts returns the sums of the books.
func (m *Module) Counts() Counts { return m.book.sums() }

// submitted takes a line of input. What is wrong with the line itself is Permanent: no repetition mends it.
func (m *Module) submitted(ctx context.Context, e submission) error {
	o, err := e.order()
	if err != nil {
		return bus.Permanent(err)
	}
	// Two lines can name one order, and one line can be delivered twice. Only the first is a duplicate: the line that
	// the order came with is finished the second time, if it was not the first time.
	message := ""
	if d, ok := bus.DeliveryFrom(ctx); ok {
		message = d.Message().ID
	}
	duplicate, err := m.book.take(o, message)
	if err != nil {
		return bus.Permanent(err)
	}
	if duplicate {
		return nil
	}
	return m.events.Publish(ctx, orderevents.Placed{OrderID: o.ID, Items: o.Items})
}

func (m *Module) reserved(ctx context.Context, e stockevents.Reserved) error {
	return m.step(ctx, e.OrderID, Placed, Reserved, "", func(o Order) bus.Event {
		return orderevents.Payable{OrderID: o.ID, Card: o.Card, Cents: o.Cents}
	})
}

func (m *Module) refused(ctx context.Context, e stockevents.Refused) error {
	return m.step(ctx, e.OrderID, Placed, Refused, e.Reason, cancelled)
}

func (m *Module) charged(ctx context.Context, e paymentevents.Charged) error {
	return m.step(ctx, e.OrderID, Reserved, Paid, "", func(o Order) bus.Event {
		return orderevents.Paid{OrderID: o.ID, Customer: o.Customer, Items: o.Items}
	})
}

func (m *Module) declined(ctx context.Context, e paymentevents.Declined) error {
	return m.step(ctx, e.OrderID, Reserved, Declined, e.Reason, cancelled)
}

func (m *Module) shipped(ctx context.Context, e shipmentevents.Shipped) error {
	return m.step(ctx, e.OrderID, Paid, Shipped, "", nil)
}

func cancelled(o Order) bus.Event {
	return orderevents.Cancelled{OrderID: o.ID, Customer: o.Customer, Reason: o.Reason}
}

// step moves an order on and publishes what follows from it. The books come first: the answer to an event can arrive
// before Publish has returned. So an order that has just this state already may not have told anybody, and tells again;
// one that is further has been heard.
func (m *Module) step(ctx context.Context, id string, from, to State, reason string, follows func(Order) bus.Event) error {
	o, err := m.book.move(id, from, to, reason)
	if err != nil {
		return fmt.Errorf("order %q: %w", id, err)
	}
	if o.State != to || follows == nil {
		return nil
	}
	return m.events.Publish(ctx, follows(o))
}
