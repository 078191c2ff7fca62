package orders

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/postbus/postbus/examples/shop/orders/orderevents"
)

// Limits of an order. They keep every sum of cents far from the end of an int64.
const (
	maxItems    = 100
	maxQuantity = 1_000
	maxCents    = 10_000_000
)

// submission is what the module reads out of a line of the intake: its own view of an event whose publisher knows no
// type.
type submission struct {
	ID       string `json:"id"`
	Customer string `json:"customer"`
	Card     string `json:"card"`
	Items    []struct {
		SKU      string `json:"sku"`
		Quantity int    `json:"quantity"`
		Cents    int64  `json:"cents"` // of one piece
	} `json:"items"`
}

// EventName implements bus.Event.
func (submission) EventName() string { return "intake.line" }

// The id becomes the key of all events of the order, and travels as such.
var validID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// order returns the order, or all that is wrong with it.
func (s submission) order() (orderevents.Placed, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validID.MatchString(s.ID) {
		bad("id %.80q must be 1 to 64 letters, digits, dots, dashes and underscores", s.ID)
	}
	if s.Customer == "" {
		bad("customer is missing")
	}
	if s.Card == "" {
		bad("card is missing")
	}
	if len(s.Items) == 0 || len(s.Items) > maxItems {
		bad("%d items: there must be 1 to %d", len(s.Items), maxItems)
	}
	o := orderevents.Placed{OrderID: s.ID, Customer: s.Customer, Card: s.Card}
	for i, item := range s.Items[:min(len(s.Items), maxItems)] {
		if item.Quantity < 1 || item.Quantity > maxQuantity {
			bad("item %d: quantity %d must be 1 to %d", i+1, item.Quantity, maxQuantity)
		}
		if item.Cents < 0 || item.Cents > maxCents {
			bad("item %d: %d cents must be 0 to %d", i+1, item.Cents, maxCents)
		}
		o.Items = append(o.Items, orderevents.Item{SKU: item.SKU, Quantity: item.Quantity})
		o.Cents += int64(item.Quantity) * item.Cents
	}
	if len(errs) > 0 {
		return orderevents.Placed{}, fmt.Errorf("not a valid order: %w", errors.Join(errs...))
	}
	return o, nil
}
