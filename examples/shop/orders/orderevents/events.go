// Package orderevents is what the orders module publishes: the part of it that other modules may import.
package orderevents

// Item is a position of an order.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Placed says that a new order was taken on.
type Placed struct {
	OrderID string `json:"order_id"`
	Items   []Item `json:"items"`
}

// EventName implements bus.Event.
func (Placed) EventName() string { return "orders.placed" }

// EventKey implements bus.Keyed.
func (e Placed) EventKey() string { return e.OrderID }

// Payable says that an order can be delivered, and is to be paid for.
type Payable struct {
	OrderID string `json:"order_id"`
	Card    string `json:"card"`
	Cents   int64  `json:"cents"`
}

// EventName implements bus.Event.
func (Payable) EventName() string { return "orders.payable" }

// EventKey implements bus.Keyed.
func (e Payable) EventKey() string { return e.OrderID }

// Paid says that an order is paid for, and may leave the house.
type Paid struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Items    []Item `json:"items"`
}

// EventName implements bus.Event.
func (Paid) EventName() string { return "orders.paid" }

// EventKey implements bus.Keyed.
func (e Paid) EventKey() string { return e.OrderID }

// Cancelled says that nothing will come of an order.
type Cancelled struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Reason   string `json:"reason"`
}

// EventName implements bus.Event.
func (Cancelled) EventName() string { return "orders.cancelled" }

// EventKey implements bus.Keyed.
func (e Cancelled) EventKey() string { return e.OrderID }
