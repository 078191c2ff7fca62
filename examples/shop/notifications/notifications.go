// Package notifications writes to customers about the end of their orders.
package notifications

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
const Group = "notifications"

// Mail is what the books say about an order.
type Mail struct {
	To, Text string
	Shipped  bool // the good news; else it is the bad
}

// Module is the notifications module. It publishes nothing.
type Module struct {
	book book
}

// book is the module's state.
type book struct {
	mu    sync.Mutex
	mails map[string]Mail // by order
}

// New makes the module.
func New() *Module { return &Module{book: book{mails: map[string]Mail{}}} }

// Wire declares the module's handlers.
func (m *Module) Wire(b *bus.Bus) {
	bus.Handle(b, Group, m.shipped)
	bus.Handle(b, Group, m.cancelled)
}

// Ledger returns a copy of the books, by order.
func (m *Module) Ledger() map[string]Mail {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	return maps.Clone(m.book.mails)
}

// Sent returns to how many orders there is a mail.
func (m *Module) Sent() int {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	return len(m.book.mails)
}

func (m *Module) shipped(_ context.Context, e shipmentevents.Shipped) error {
	m.send(e.OrderID, Mail{To: e.Customer, Text: fmt.Sprintf("Your order %s is on its way in parcel %s.", e.OrderID, e.Parcel), Shipped: true})
	return nil
}

func (m *Module) cancelled(_ context.Context, e orderevents.Cancelled) error {
	m.send(e.OrderID, Mail{To: e.Customer, Text: fmt.Sprintf("Your order %s was cancelled: %s.", e.OrderID, e.Reason)})
	return nil
}

// send writes once about each order: customers do not want a mail for every redelivery.
func (m *Module) send(orderID string, mail Mail) {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	if _, sent := m.book.mails[orderID]; !sent {
		m.book.mails[orderID] = mail
	}
}
