// Package inventory puts stock aside for orders, and lets it go with the parcel or back to the shelf.
package inventory

import (
	"context"
	"fmt"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/inventory/stockevents"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
)

// Group is the name under which the module consumes.
const Group = "inventory"

// Module is the inventory module.
type Module struct {
	events bus.Publisher
	book   book
}

// New makes the module with opening pieces of each SKU on the shelf; it publishes to events.
func New(events bus.Publisher, opening map[string]int) *Module {
	m := &Module{events: events, book: book{stock: map[string]Stock{}, holds: map[string]Hold{}}}
	for sku, pieces := range opening {
		m.book.stock[sku] = Stock{Opening: pieces, OnHand: pieces}
	}
	return m
}

// Wire declares the module's handlers.
func (m *Module) Wire(b *bus.Bus) {
	bus.Handle(b, Group, m.placed)
	bus.Handle(b, Group, m.cancelled)
	bus.Handle(b, Group, m.shipped)
}

// Ledger returns a copy of the books.
func (m *Module) Ledger() Ledger { return m.book.ledger() }

// Held returns for how many orders stock is put aside now.
func (m *Module) Held() int { return m.book.heldNow() }

// placed decides once for each order, and gives the same answer however often it is asked.
func (m *Module) placed(ctx context.Context, e orderevents.Placed) error {
	h := m.book.hold(e.OrderID, e.Items)
	if h.State == Refused {
		return m.events.Publish(ctx, stockevents.Refused{OrderID: e.OrderID, Reason: h.Reason})
	}
	return m.events.Publish(ctx, stockevents.Reserved{OrderID: e.OrderID})
}

func (m *Module) cancelled(_ context.Context, e orderevents.Cancelled) error {
	return m.end(e.OrderID, Released)
}

func (m *Module) shipped(_ context.Context, e shipmentevents.Shipped) error {
	return m.end(e.OrderID, Gone)
}

func (m *Module) end(orderID string, how State) error {
	if err := m.book.end(orderID, how); err != nil {
		return fmt.Errorf("stock of order %q: %w", orderID, err)
	}
	return nil
}
