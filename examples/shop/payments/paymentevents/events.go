// Package paymentevents is what the payments module publishes: the part of it that other modules may import.
package paymentevents

// Charged says that an order was paid for.
type Charged struct {
	OrderID string `json:"order_id"`
	Cents   int64  `json:"cents"`
}

// EventName implements bus.Event.
func (Charged) EventName() string { return "payments.charged" }

// EventKey implements bus.Keyed.
func (e Charged) EventKey() string { return e.OrderID }

// Pending says that the bank waits for the customer to confirm; Charged or Declined may follow.
type Pending struct {
	OrderID string `json:"order_id"`
}

// EventName implements bus.Event.
func (Pending) EventName() string { return "payments.pending" }

// EventKey implements bus.Keyed.
func (e Pending) EventKey() string { return e.OrderID }

// Declined says that the card of an order was declined; no money moved.
type Declined struct {
	OrderID string `json:"order_id"`
	Reason  string `json:"reason"`
}

// EventName implements bus.Event.
func (Declined) EventName() string { return "payments.declined" }

// EventKey implements bus.Keyed.
func (e Declined) EventKey() string { return e.OrderID }
