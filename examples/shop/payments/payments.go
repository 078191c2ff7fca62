// Package payments charges the cards of orders.
package payments

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// Module is the module in an application.
var Module = fx.Module("payments",
	fx.Provide(New, NewBank),
	busfx.Handle("payments", (*Payments).payable),
	busfx.Handle("payments", (*Payments).unpayable),
	describefx.Publishes("payments", paymentevents.Charged{}, paymentevents.Pending{}, paymentevents.Declined{}),
)

// Gateway moves the money.
type Gateway interface {
	// Charge charges a card, once however often it is called for one order. An error that matches ErrDeclined or
	// ErrPending is an answer; after any other it is to be called again.
	Charge(ctx context.Context, orderID, card string, cents int64) error
	// Refund undoes what Charge has done, if it has done anything. It can be called again.
	Refund(ctx context.Context, orderID string) error
}

// Answers of a Gateway.
var (
	ErrDeclined = errors.New("card declined")
	ErrPending  = errors.New("waits for the customer")
)

// Payments is the module. It calls the gateway before its transaction, for no rollback undoes that; what it writes and
// publishes then takes effect once, as with outbox.Handle.
type Payments struct {
	gateway Gateway
	box     *outbox.Box
}

// New makes the module, and its table when the application starts.
func New(lc fx.Lifecycle, db *store.DB, box *outbox.Box, gateway Gateway) *Payments {
	tables.Create(lc, db,
		`create table if not exists shop_payments (order_id varchar(64) primary key, status varchar(16), cents bigint, retries int)`)
	return &Payments{gateway, box}
}

// payable charges an order. A gateway in trouble is an error, so that the message comes again; a declined card is an answer.
func (p *Payments) payable(ctx context.Context, e checkoutevents.Payable) error {
	var status string
	var answer bus.Event
	switch err := p.gateway.Charge(ctx, e.OrderID, e.Card, e.Cents); {
	case errors.Is(err, ErrDeclined):
		status, answer = "declined", paymentevents.Declined{OrderID: e.OrderID, Reason: err.Error()}
	case errors.Is(err, ErrPending):
		status, answer = "pending", paymentevents.Pending{OrderID: e.OrderID}
	case err != nil:
		return fmt.Errorf("charge order %q: %w", e.OrderID, err)
	default:
		status, answer = "charged", paymentevents.Charged{OrderID: e.OrderID, Cents: e.Cents}
	}
	d, _ := bus.DeliveryFrom(ctx)
	return p.box.Once(ctx, func(tx *outbox.Tx) error {
		_, err := tables.Insert(ctx, tx, `shop_payments (order_id, status, cents, retries)`, e.OrderID, status, e.Cents, d.Tries-1)
		if err != nil {
			return err
		}
		return tx.Publish(ctx, answer)
	})
}

func (p *Payments) unpayable(ctx context.Context, e checkoutevents.Unpayable) error {
	if err := p.gateway.Refund(ctx, e.OrderID); err != nil {
		return fmt.Errorf("refund order %q: %w", e.OrderID, err)
	}
	return p.box.Once(ctx, func(tx *outbox.Tx) error {
		_, err := tables.Exec(ctx, tx, `update shop_payments set status = 'refunded' where order_id = ? and status <> 'declined'`, e.OrderID)
		return err
	})
}
