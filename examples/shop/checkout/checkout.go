// Package checkout leads each order to its end: its items are put aside, it is paid for, it is shipped; and where one of
// that fails, what was done before is undone.
package checkout

import (
	"context"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/inventory/stockevents"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagafx"
)

// Module is the checkout in an application.
var Module = fx.Module("checkout",
	sagafx.Define(Checkout),
	describefx.Publishes("saga.checkout", checkoutevents.Opened{}, checkoutevents.Payable{}, checkoutevents.Unpayable{},
		checkoutevents.Paid{}, checkoutevents.Cancelled{}),
)

// Order is what the checkout knows about an order.
type Order struct {
	Placed  orderevents.Placed
	Pending bool // the bank waits for the customer
	Outcome checkoutevents.Outcome
	Reason  string
}

const (
	// patience is how long the bank may take until it answers.
	patience = 15 * time.Minute
	// confirmation is how long the customer may take to confirm the payment; it is short, for who watches.
	confirmation = 2 * time.Second
)

// Checkout is the saga. Nothing in it does anything but publish, so that its steps are Local: each goes out with the
// message that led to it, in one transaction.
var Checkout = saga.Definition[Order]{
	Name: "checkout", Version: 1,
	Start: saga.StartOn(func(e orderevents.Placed) (string, Order) { return e.OrderID, Order{Placed: e} }),
	Steps: []saga.Step[Order]{
		{Name: "reserve", Do: reserve, Undo: cancel, Local: true, MayWaitForever: true, Await: saga.Replies(
			saga.Continue(func(*Order, stockevents.Reserved) error { return nil }),
			saga.Abort(refused))},
		{Name: "charge", Do: charge, Undo: refund, Local: true, Timeout: patience, Await: saga.Replies(
			saga.Continue(charged),
			saga.Continue(pending),
			saga.Abort(declined))},
		{Name: "confirm", When: func(o *Order) bool { return o.Pending }, Timeout: confirmation, Await: saga.Replies(
			saga.Continue(charged),
			saga.Abort(declined))},
		{Name: "ship", Do: ship, Local: true, Pivot: true, MayWaitForever: true, Await: saga.Replies(
			saga.Continue(func(*Order, shipmentevents.Shipped) error { return nil }))},
	},
}

func reserve(ctx context.Context, r *saga.Run[Order]) error {
	return r.Publish(ctx, checkoutevents.Opened{OrderID: r.Key(), Items: r.State.Placed.Items})
}

// cancel undoes the first step, and so comes last. What nobody has given a reason for has timed out.
func cancel(ctx context.Context, r *saga.Run[Order]) error {
	o := r.State
	if o.Outcome == "" {
		o.Outcome, o.Reason = checkoutevents.Unpaid, "the payment was not confirmed"
	}
	return r.Publish(ctx, checkoutevents.Cancelled{OrderID: r.Key(), Customer: o.Placed.Customer, Outcome: o.Outcome, Reason: o.Reason})
}

func refused(o *Order, e stockevents.Refused) error {
	o.Outcome, o.Reason = checkoutevents.Refused, e.Reason
	return nil
}

func charge(ctx context.Context, r *saga.Run[Order]) error {
	return r.Publish(ctx, checkoutevents.Payable{OrderID: r.Key(), Card: r.State.Placed.Card, Cents: r.State.Placed.Cents})
}

func refund(ctx context.Context, r *saga.Run[Order]) error {
	return r.Publish(ctx, checkoutevents.Unpayable{OrderID: r.Key()})
}

func charged(o *Order, _ paymentevents.Charged) error {
	o.Pending = false
	return nil
}

func pending(o *Order, _ paymentevents.Pending) error {
	o.Pending = true
	return nil
}

func declined(o *Order, e paymentevents.Declined) error {
	o.Outcome, o.Reason = checkoutevents.Declined, e.Reason
	return nil
}

func ship(ctx context.Context, r *saga.Run[Order]) error {
	o := r.State.Placed
	return r.Publish(ctx, checkoutevents.Paid{OrderID: r.Key(), Customer: o.Customer, Items: o.Items})
}
