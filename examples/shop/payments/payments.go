// Package payments charges the cards of orders.
package payments

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
)

// Group is the name under which the module consumes.
const Group = "payments"

// Gateway moves the money.
type Gateway interface {
	// Charge charges a card, once however often it is called for one order. An error that matches ErrDeclined is
	// final; after any other it is to be called again.
	Charge(ctx context.Context, orderID, card string, cents int64) error
}

// ErrDeclined: the card's issuer does not pay.
var ErrDeclined = errors.New("card declined")

// Outcome is what the books say about an order.
type Outcome struct {
	Cents    int64  // that were charged
	Declined bool   // no money moved
	Reason   string // why not
}

// Module is the payments module.
type Module struct {
	events  bus.Publisher
	gateway Gateway
	book    book
}

// book is the module's state.
type book struct {
	mu       sync.Mutex
	outcomes map[string]Outcome // by order
}

// New makes the module; it publishes to events.
func New(events bus.Publisher, gateway Gateway) *Module {
	return &Module{events: events, gateway: gateway, book: book{outcomes: map[string]Outcome{}}}
}

// Wire declares the module's handlers.
func (m *Module) Wire(b *bus.Bus) {
	bus.Handle(b, Group, m.payable)
}

// Ledger returns a copy of the books, by order.
func (m *Module) Ledger() map[string]Outcome {
	m.book.mu.Lock()
	defer m.book.mu.Unlock()
	return maps.Clone(m.book.outcomes)
}

// payable charges once for each order, and gives the same answer however often it is asked. A gateway in trouble is an
// error, so that the order comes again; a declined card is an answer.
func (m *Module) payable(ctx context.Context, e orderevents.Payable) error {
	outcome, known := m.book.get(e.OrderID)
	if !known {
		switch err := m.gateway.Charge(ctx, e.OrderID, e.Card, e.Cents); {
		case errors.Is(err, ErrDeclined):
			outcome = Outcome{Declined: true, Reason: err.Error()}
		case err != nil:
			return fmt.Errorf("charge order %q: %w", e.OrderID, err)
		default:
			outcome = Outcome{Cents: e.Cents}
		}
		m.book.set(e.OrderID, outcome)
	}
	if outcome.Declined {
		return m.events.Publish(ctx, paymentevents.Declined{OrderID: e.OrderID, Reason: outcome.Reason})
	}
	return m.events.Publish(ctx, paymentevents.Charged{OrderID: e.OrderID, Cents: outcome.Cents})
}

func (b *book) get(orderID string) (Outcome, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.outcomes[orderID]
	return o, ok
}

func (b *book) set(orderID string, o Outcome) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.outcomes[orderID] = o
}
