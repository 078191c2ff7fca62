// Package inventory puts stock aside for orders, and lets it go with the parcel or back to the shelf.
package inventory

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"go.uber.org/fx"

	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/inventory/stockevents"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
	"github.com/postbus/postbus/examples/shop/tables"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/store"
)

// Module is the module in an application.
var Module = fx.Module("inventory",
	fx.Provide(New),
	outboxfx.Handle("inventory", (*Inventory).opened),
	outboxfx.Handle("inventory", (*Inventory).cancelled),
	outboxfx.Handle("inventory", (*Inventory).shipped),
	describefx.Publishes("inventory", stockevents.Reserved{}, stockevents.Refused{}),
)

// opening is the stock at the start of the day, in pieces.
var opening = map[string]int{
	"apron": 400, "bowl": 900, "cup": 2000, "fork": 3000, "jug": 500,
	"knife": 3000, "plate": 2500, "spoon": 3000, "teapot": 300, "tray": 600,
}

// Inventory is the module.
type Inventory struct{}

// New makes the module, and its tables and the stock when the application starts.
func New(lc fx.Lifecycle, db *store.DB, box *outbox.Box) *Inventory {
	tables.Create(lc, db,
		`create table if not exists shop_stock (sku varchar(64) primary key, opening int, on_hand int, held int, gone int)`,
		`create table if not exists shop_holds (order_id varchar(64) primary key, items text, status varchar(16))`)
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		return box.Tx(ctx, func(tx *outbox.Tx) error {
			for sku, pieces := range opening {
				if _, err := tables.Insert(ctx, tx, `shop_stock (sku, opening, on_hand, held, gone)`, sku, pieces, pieces, 0, 0); err != nil {
					return err
				}
			}
			return nil
		})
	}))
	return &Inventory{}
}

// errShort: the order cannot be delivered.
var errShort = errors.New("unknown, or out of stock")

// opened puts all items of an order aside, or none.
func (*Inventory) opened(ctx context.Context, tx *outbox.Tx, e checkoutevents.Opened) error {
	err := tx.Savepoint(ctx, func() error {
		return each(e.Items, func(i orderevents.Item) error {
			found, err := tables.Exec(ctx, tx, `update shop_stock set on_hand = on_hand - ?, held = held + ? where sku = ? and on_hand >= ?`,
				i.Quantity, i.Quantity, i.SKU, i.Quantity)
			if err == nil && found == 0 {
				return fmt.Errorf("%w: %.80q", errShort, i.SKU)
			}
			return err
		})
	})
	if errors.Is(err, errShort) {
		return tx.Publish(ctx, stockevents.Refused{OrderID: e.OrderID, Reason: err.Error()})
	}
	if err != nil {
		return err
	}
	items, err := json.Marshal(e.Items)
	if err != nil {
		return err
	}
	if _, err := tables.Insert(ctx, tx, `shop_holds (order_id, items, status)`, e.OrderID, string(items), "held"); err != nil {
		return err
	}
	return tx.Publish(ctx, stockevents.Reserved{OrderID: e.OrderID})
}

func (*Inventory) cancelled(ctx context.Context, tx *outbox.Tx, e checkoutevents.Cancelled) error {
	return let(ctx, tx, e.OrderID, "released", `update shop_stock set held = held - ?, on_hand = on_hand + ? where sku = ?`)
}

func (*Inventory) shipped(ctx context.Context, tx *outbox.Tx, e shipmentevents.Shipped) error {
	return let(ctx, tx, e.OrderID, "gone", `update shop_stock set held = held - ?, gone = gone + ? where sku = ?`)
}

// let lets go what is held for an order, if anything is.
func let(ctx context.Context, tx *outbox.Tx, orderID, status, move string) error {
	held, err := tables.Exec(ctx, tx, `update shop_holds set status = ? where order_id = ? and status = 'held'`, status, orderID)
	if err != nil || held == 0 {
		return err
	}
	var text string
	if err := tables.Row(ctx, tx, `select items from shop_holds where order_id = ?`, orderID).Scan(&text); err != nil {
		return err
	}
	var items []orderevents.Item
	if err := json.Unmarshal([]byte(text), &items); err != nil {
		return err
	}
	return each(items, func(i orderevents.Item) error {
		_, err := tables.Exec(ctx, tx, move, i.Quantity, i.Quantity, i.SKU)
		return err
	})
}

// each calls f with the items in the order of their SKUs, so that no two transactions wait for each other's.
func each(items []orderevents.Item, f func(orderevents.Item) error) error {
	items = slices.Clone(items)
	slices.SortFunc(items, func(a, b orderevents.Item) int { return cmp.Compare(a.SKU, b.SKU) })
	for _, i := range items {
		if err := f(i); err != nil {
			return err
		}
	}
	return nil
}
