package orders

import (
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/postbus/postbus/examples/shop/orders/orderevents"
)

// State is how far an order has come.
type State string

// The states: an order goes from Placed by Reserved and Paid to Shipped, or ends in between.
const (
	Placed   State = "placed"
	Reserved State = "reserved"
	Paid     State = "paid"
	Shipped  State = "shipped"
	Declined State = "declined" // the card was
	Refused  State = "refused"  // the inventory cannot deliver it
)

var steps = map[State]int{Placed: 0, Reserved: 1, Refused: 1, Paid: 2, Declined: 2, Shipped: 3}

// Final reports whether nothing more will happen to an order in this state.
func (s State) Final() bool { return s == Shipped || s == Declined || s == Refused }

// Order is an order in the books.
type Order struct {
	ID, Customer, Card string
	Items              []orderevents.Item
	Cents              int64 // of all items
	State              State
	Reason             string // why it was declined or refused

	message string // the ID of the message that it came with
}

// Ledger is a copy of the books.
type Ledger struct {
	Orders     map[string]Order // by ID
	Duplicates int              // lines with an order that was known already
}

// Counts are sums over the books.
type Counts struct {
	Orders, Final, Shipped, Declined, Refused, Duplicates int
}

// book is the module's state.
type book struct {
	mu         sync.Mutex
	orders     map[string]Order
	duplicates map[string]bool // IDs of messages, for each counts once however often it is delivered
	counts     Counts
}

// take enters an order that came with a message. It reports whether the order is known from another message, and
// refuses one that contradicts that.
func (b *book) take(o Order, message string) (duplicate bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	known, ok := b.orders[o.ID]
	switch {
	case !ok:
		o.message = message
		b.orders[o.ID] = o
		b.counts.Orders++
		return false, nil
	case known.message == message:
		return false, nil
	case known.Customer != o.Customer || known.Card != o.Card || known.Cents != o.Cents || !slices.Equal(known.Items, o.Items):
		return false, fmt.Errorf("order %q is known with another content", o.ID)
	}
	b.duplicates[message] = true
	b.counts.Duplicates = len(b.duplicates)
	return true, nil
}

// move moves an order on, unless it has come as far already. It returns the order as it then is.
func (b *book) move(id string, from, to State, reason string) (Order, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	o, ok := b.orders[id]
	switch {
	case !ok:
		return Order{}, fmt.Errorf("not in the books, and is to become %s", to)
	case o.State == from:
		o.State, o.Reason = to, reason
		b.orders[id] = o
		b.count(to)
	case steps[o.State] < steps[from]:
		return Order{}, fmt.Errorf("is %s, and is to become %s, which follows %s", o.State, to, from)
	}
	return o, nil
}

func (b *book) count(to State) {
	switch to {
	case Shipped:
		b.counts.Shipped++
	case Declined:
		b.counts.Declined++
	case Refused:
		b.counts.Refused++
	}
	if to.Final() {
		b.counts.Final++
	}
}

func (b *book) ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Ledger{Orders: maps.Clone(b.orders), Duplicates: len(b.duplicates)}
}

func (b *book) sums() Counts {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.counts
}
