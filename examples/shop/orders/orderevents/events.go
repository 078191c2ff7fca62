// Package orderevents is what the orders module publishes: the part of it that other modules may import.
package orderevents

// Item is a position of an order.
type Item struct {
	SKU      string `json:"sku"`
	Quantity int    `json:"quantity"`
}

// Placed says that a new order was taken on.
type Placed struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Card     string `json:"card"`
	Items    []Item `json:"items"`
	Cents    int64  `json:"cents"` // of all items
}

// EventName implements bus.Event.
func (Placed) EventName() string { return "orders.placed" }

// EventKey implements bus.Keyed.
func (e Placed) EventKey() string { return e.OrderID }
