package inventory

import (
	"fmt"
	"maps"
	"sync"

	"github.com/postbus/postbus/examples/shop/orders/orderevents"
)

// Stock is the account of one SKU, in pieces. Opening is the sum of the three others at all times.
type Stock struct {
	Opening, OnHand, Held, Gone int
}

// State is what became of the stock of an order.
type State string

// The states: an order is Refused, or its stock is Held and then Gone with the parcel or Released to the shelf.
const (
	Held     State = "held"
	Refused  State = "refused"
	Released State = "released"
	Gone     State = "gone"
)

// Hold is what the books say about an order.
type Hold struct {
	State  State
	Items  []orderevents.Item
	Reason string // why it was refused
}

// Ledger is a copy of the books.
type Ledger struct {
	Stock map[string]Stock // by SKU
	Holds map[string]Hold  // by order
}

// book is the module's state.
type book struct {
	mu    sync.Mutex
	stock map[string]Stock
	holds map[string]Hold
	held  int
}

// hold puts the items aside, all or none, unless it is decided about the order already. It returns what is decided.
func (b *book) hold(orderID string, items []orderevents.Item) Hold {
	b.mu.Lock()
	defer b.mu.Unlock()
	if h, ok := b.holds[orderID]; ok {
		return h
	}
	need := map[string]int{}
	h := Hold{State: Held, Items: items}
	for _, item := range items {
		need[item.SKU] += item.Quantity
		s, known := b.stock[item.SKU]
		switch {
		case !known:
			h = Hold{State: Refused, Reason: fmt.Sprintf("unknown SKU %.80q", item.SKU)}
		case need[item.SKU] > s.OnHand && h.State == Held:
			h = Hold{State: Refused, Reason: fmt.Sprintf("out of stock: %s", item.SKU)}
		}
	}
	b.holds[orderID] = h
	if h.State == Held {
		b.held++
		for _, item := range items {
			s := b.stock[item.SKU]
			s.OnHand -= item.Quantity
			s.Held += item.Quantity
			b.stock[item.SKU] = s
		}
	}
	return h
}

// end lets the stock of an order go. A second time, and for an order that was refused, it does nothing.
func (b *book) end(orderID string, how State) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	h, ok := b.holds[orderID]
	if !ok {
		return fmt.Errorf("not in the books, and is to be %s", how)
	}
	if h.State != Held {
		return nil
	}
	h.State = how
	b.holds[orderID] = h
	b.held--
	for _, item := range h.Items {
		s := b.stock[item.SKU]
		s.Held -= item.Quantity
		if how == Gone {
			s.Gone += item.Quantity
		} else {
			s.OnHand += item.Quantity
		}
		b.stock[item.SKU] = s
	}
	return nil
}

func (b *book) ledger() Ledger {
	b.mu.Lock()
	defer b.mu.Unlock()
	return Ledger{Stock: maps.Clone(b.stock), Holds: maps.Clone(b.holds)}
}

func (b *book) heldNow() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.held
}
