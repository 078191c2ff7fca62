// Package shipping packs parcels for orders that are paid for.
package shipping

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
)

// Group is the name under which the module consumes.
const Group = "shipping"

// Parcel is what the books say about an order.
type Parcel struct {
	Number string
	Items  []orderevents.Item
}

// Module is the shipping module.
type Module struct {
	events bus.Publisher
	book   book
}

// book is the module's state.
type book struct {
	mu      sync.Mutex
	parcels map[string]Parcel // by order
}

// New makes the module; it publishes to events.
func New(events bus.Publisher) *Module {
	return &Module{events: events, book: book{parcels: map[string]Parcel{}}}
}

// Wire declares the module's handlers.
func (m *Module) Wire(b *bus.Bus) {
	bus.Handle(b, Group, m.paid)
}

// Ledger returns a copy of the books, by order.
func (m *Module) Ledger() map[string]Parcel {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	return maps.Clone(m.book.parcels)
}

// paid packs one parcel for each order, and gives the same answer however often it is asked.
func (m *Module) paid(ctx context.Context, e orderevents.Paid) error {
	p := m.book.pack(e.OrderID, e.Items)
	return m.events.Publish(ctx, shipmentevents.Shipped{OrderID: e.OrderID, Customer: e.Customer, Parcel: p.Number})
}

func (b *book) pack(orderID string, items []orderevents.Item) Parcel {
	b.mu.Lock()
	defer b.mu.Unlock()
	p, ok := b.parcels[orderID]
	if !ok {
		p = Parcel{Number: fmt.Sprintf("P%06d", len(b.parcels)+1), Items: items}
		b.parcels[orderID] = p
	}
	return p
}
