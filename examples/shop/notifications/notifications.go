// Package notifications writes to customers about the end of their orders.
package notifications

import (
	"context"
	"fmt"

	"go.uber.org/fx"

	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/store"
)

// Module is the module in an application.
var Module = fx.Module("notifications",
	fx.Provide(New),
	outboxfx.Handle("notifications", (*Notifications).shipped),
	outboxfx.Handle("notifications", (*Notifications).cancelled),
)

// Notifications is the module. It publishes nothing.
type Notifications struct{}

// New makes the module, and its table when the application starts.
func New(lc fx.Lifecycle, db *store.DB) *Notifications {
	tables.Create(lc, db,
		`create table if not exists shop_mails (order_id varchar(64) primary key, recipient text, about varchar(16), body text)`)
	return &Notifications{}
}

func (*Notifications) shipped(ctx context.Context, tx *outbox.Tx, e shipmentevents.Shipped) error {
	return send(ctx, tx, e.OrderID, e.Customer, "shipped", fmt.Sprintf("Your order %s is on its way in parcel %s.", e.OrderID, e.Parcel))
}

func (*Notifications) cancelled(ctx context.Context, tx *outbox.Tx, e checkoutevents.Cancelled) error {
	return send(ctx, tx, e.OrderID, e.Customer, string(e.Outcome), fmt.Sprintf("Your order %s was cancelled: %s.", e.OrderID, e.Reason))
}

func send(ctx context.Context, tx *outbox.Tx, orderID, to, about, body string) error {
	_, err := tables.Exec(ctx, tx, `insert into shop_mails (order_id, recipient, about, body) values (?, ?, ?, ?)`, orderID, to, about, body)
	return err
}
