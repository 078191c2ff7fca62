// Package shipping packs parcels for orders that are paid for.
package shipping

import (
	"context"
	"encoding/json"

	"go.uber.org/fx"

	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/store"
)

// Module is the module in an application.
var Module = fx.Module("shipping",
	fx.Provide(New),
	outboxfx.Handle("shipping", (*Shipping).paid),
	describefx.Publishes("shipping", shipmentevents.Shipped{}),
)

// Shipping is the module.
type Shipping struct{}

// New makes the module, and its table when the application starts.
func New(lc fx.Lifecycle, db *store.DB) *Shipping {
	tables.Create(lc, db, `create table if not exists shop_parcels (order_id varchar(64) primary key, items text)`)
	return &Shipping{}
}

func (*Shipping) paid(ctx context.Context, tx *outbox.Tx, e checkoutevents.Paid) error {
	items, err := json.Marshal(e.Items)
	if err != nil {
		return err
	}
	if _, err := tables.Exec(ctx, tx, `insert into shop_parcels (order_id, items) values (?, ?)`, e.OrderID, string(items)); err != nil {
		return err
	}
	return tx.Publish(ctx, shipmentevents.Shipped{OrderID: e.OrderID, Customer: e.Customer, Parcel: "P-" + e.OrderID})
}
