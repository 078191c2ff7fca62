// Package shipmentevents is what the shipping module publishes: the part of it that other modules may import.
package shipmentevents

// Shipped says that the parcel of an order has left the house.
type Shipped struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Parcel   string `json:"parcel"`
}

// EventName implements bus.Event.
func (Shipped) EventName() string { return "shipping.shipped" }

// EventKey implements bus.Keyed.
func (e Shipped) EventKey() string { return e.OrderID }
