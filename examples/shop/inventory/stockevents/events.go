// Package stockevents is what the inventory module publishes: the part of it that other modules may import.
package stockevents

// Reserved says that all items of an order are put aside for it.
type Reserved struct {
	OrderID string `json:"order_id"`
}

// EventName implements bus.Event.
func (Reserved) EventName() string { return "inventory.reserved" }

// EventKey implements bus.Keyed.
func (e Reserved) EventKey() string { return e.OrderID }

// Refused says that an order cannot be delivered; nothing is put aside for it.
type Refused struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

// EventName implements bus.Event.
func (Refused) EventName() string { return "inventory.refused" }

// EventKey implements bus.Keyed.
func (e Refused) EventKey() string { return e.OrderID }
