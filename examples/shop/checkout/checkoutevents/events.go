// Package checkoutevents is what the checkout publishes: the part of it that other modules may import.
package checkoutevents

import "github.com/postbus/postbus/examples/shop/orders/orderevents"

// Opened wants the items of an order put aside.
type Opened struct {
	OrderID string             `json:"order_id"`
	Items   []orderevents.Item `json:"items"`
}

// Payable wants an order paid for.
type Payable struct {
	OrderID string `json:"order_id"`
	Card    string `json:"card"`
	Cents   int64  `json:"cents"`
}

// Unpayable wants back what was paid for an order, if anything was.
type Unpayable struct {
	OrderID string `json:"order_id"`
}

// Paid wants an order packed and sent.
type Paid struct {
	OrderID  string             `json:"order_id"`
	Customer string             `json:"customer"`
	Items    []orderevents.Item `json:"items"`
}

// Cancelled says that nothing will come of an order.
type Cancelled struct {
	OrderID  string  `json:"order_id"`
	Customer string  `json:"customer"`
	Outcome  Outcome `json:"outcome"`
	Reason   string  `json:"reason"`
}

// Outcome is why an order was cancelled.
type Outcome string

// The outcomes.
const (
	Refused  Outcome = "refused"  // the inventory cannot deliver it
	Declined Outcome = "declined" // the card was
	Unpaid   Outcome = "unpaid"   // the payment was not confirmed in time
)

// EventName implements bus.Event.
func (Opened) EventName() string    { return "checkout.opened" }
func (Payable) EventName() string   { return "checkout.payable" }
func (Unpayable) EventName() string { return "checkout.unpayable" }
func (Paid) EventName() string      { return "checkout.paid" }
func (Cancelled) EventName() string { return "checkout.cancelled" }

// EventKey implements bus.Keyed: what is said about one order is heard in its order.
func (e Opened) EventKey() string    { return e.OrderID }
func (e Payable) EventKey() string   { return e.OrderID }
func (e Unpayable) EventKey() string { return e.OrderID }
func (e Paid) EventKey() string      { return e.OrderID }
func (e Cancelled) EventKey() string { return e.OrderID }
