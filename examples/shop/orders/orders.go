// Package orders takes orders on, and keeps what became of them.
package orders

import (
	"context"
	"encoding/json"
	"fmt"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/store"
)

// Module is the module in an application.
var Module = fx.Module("orders",
	fx.Provide(New),
	outboxfx.Handle("orders", (*Orders).submitted),
	outboxfx.Handle("orders", (*Orders).shipped),
	outboxfx.Handle("orders", (*Orders).cancelled),
	describefx.Publishes("orders", orderevents.Placed{}),
)

// Orders is the module. Its handlers take effect once, with what they write and publish: see outbox.Handle.
type Orders struct{}

// New makes the module, and its tables when the application starts.
func New(lc fx.Lifecycle, db *store.DB) *Orders {
	tables.Create(lc, db,
		`create table if not exists shop_orders (id varchar(64) primary key, customer text, card text, items text, cents bigint, status varchar(16))`,
		`create table if not exists shop_submissions (message varchar(64) primary key, order_id varchar(64))`)
	return &Orders{}
}

// submitted takes a line of input. What is wrong with the line itself is Permanent: no repetition mends it. A second line
// with the same order is a duplicate, which is counted and does nothing.
func (*Orders) submitted(ctx context.Context, tx *outbox.Tx, e submission) error {
	o, err := e.order()
	if err != nil {
		return bus.Permanent(err)
	}
	items, err := json.Marshal(o.Items)
	if err != nil {
		return err
	}
	first, err := tables.Insert(ctx, tx, `shop_orders (id, customer, card, items, cents, status)`,
		o.OrderID, o.Customer, o.Card, string(items), o.Cents, "placed")
	if err != nil {
		return err
	}
	if !first {
		var same int
		err := tables.Row(ctx, tx, `select count(*) from shop_orders where id = ? and customer = ? and card = ? and items = ? and cents = ?`,
			o.OrderID, o.Customer, o.Card, string(items), o.Cents).Scan(&same)
		switch {
		case err != nil:
			return err
		case same == 0:
			return bus.Permanent(fmt.Errorf("order %q is known with another content", o.OrderID))
		}
	}
	line, _ := bus.DeliveryFrom(ctx)
	if _, err := tables.Insert(ctx, tx, `shop_submissions (message, order_id)`, line.Message().ID, o.OrderID); err != nil || !first {
		return err
	}
	return tx.Publish(ctx, o)
}

func (*Orders) shipped(ctx context.Context, tx *outbox.Tx, e shipmentevents.Shipped) error {
	return end(ctx, tx, e.OrderID, "shipped")
}

func (*Orders) cancelled(ctx context.Context, tx *outbox.Tx, e checkoutevents.Cancelled) error {
	return end(ctx, tx, e.OrderID, string(e.Outcome))
}

func end(ctx context.Context, tx *outbox.Tx, orderID, status string) error {
	rows, err := tables.Exec(ctx, tx, `update shop_orders set status = ? where id = ? and status = 'placed'`, status, orderID)
	if err == nil && rows == 0 {
		return bus.Permanent(fmt.Errorf("order %q is %s, and is unknown or has ended", orderID, status))
	}
	return err
}
