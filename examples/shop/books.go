package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/store"
)

// faults are what must not be in the books: an order, or a SKU, about which two modules say what does not agree. A query
// finds them, and its columns are put into the text.
var faults = []struct{ text, query string }{
	{
		"order %s: came no further than %s",
		`select id, status from shop_orders where status = 'placed'`,
	}, {
		"order %s: %s, but its stock is %s",
		`select o.id, o.status, coalesce(h.status, 'not held') from shop_orders o left join shop_holds h on h.order_id = o.id
		where coalesce(h.status, 'none') <> case o.status when 'placed' then 'held' when 'shipped' then 'gone' when 'refused' then 'none' else 'released' end`,
	}, {
		"order %s: %s for %s cents, but its payment is %s, of %s cents",
		`select o.id, o.status, o.cents, coalesce(p.status, 'missing'), coalesce(p.cents, 0)
		from shop_orders o left join shop_payments p on p.order_id = o.id
		where coalesce(p.status, 'none') <> case o.status when 'shipped' then 'charged' when 'declined' then 'declined' when 'unpaid' then 'refunded' else 'none' end
		or p.cents <> o.cents`,
	}, {
		"order %s: %s for %s cents, but the bank has received %s",
		`select o.id, o.status, o.cents, coalesce(b.cents, 0) from shop_orders o left join bank_account b on b.order_id = o.id
		where coalesce(b.cents, 0) <> case o.status when 'shipped' then o.cents else 0 end`,
	}, {
		"order %s: %s, with items %s, but in its parcel is %s",
		`select o.id, o.status, o.items, coalesce(p.items, 'nothing') from shop_orders o left join shop_parcels p on p.order_id = o.id
		where coalesce(p.items, '') <> case o.status when 'shipped' then o.items else '' end`,
	}, {
		"order %s: %s, but the mail about it says %s",
		`select o.id, o.status, coalesce(m.about, 'nothing') from shop_orders o left join shop_mails m on m.order_id = o.id
		where coalesce(m.about, '') <> o.status`,
	}, {
		"order %s: in the books of %s, and not in those of orders",
		`select * from (select order_id, 'inventory' as book from shop_holds union all select order_id, 'payments' from shop_payments
		union all select order_id, 'the bank' from bank_account union all select order_id, 'shipping' from shop_parcels
		union all select order_id, 'notifications' from shop_mails) as entries where order_id not in (select id from shop_orders)`,
	}, {
		"stock of %s: %s at the start are not %s on hand, %s held and %s gone",
		`select sku, opening, on_hand, held, gone from shop_stock where opening <> on_hand + held + gone or on_hand < 0 or held < 0`,
	},
}

// audit returns everything in which the books do not agree; nil if they balance.
func audit(ctx context.Context, db *store.DB) (found []string, err error) {
	for _, f := range faults {
		err := each(ctx, db, f.query+" order by 1", func(columns ...any) error {
			found = append(found, fmt.Sprintf(f.text, columns...))
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	for _, c := range []struct{ text, column, items string }{
		{"stock of %s: %d are gone, and %d are in parcels", "gone", `select items from shop_parcels`},
		{"stock of %s: %d are held, and orders hold %d", "held", `select items from shop_holds where status = 'held'`},
	} {
		said, counted := map[string]int{}, map[string]int{}
		err := each(ctx, db, `select sku, `+c.column+` from shop_stock`, func(columns ...any) (err error) {
			said[columns[0].(string)], err = strconv.Atoi(columns[1].(string))
			return err
		})
		if err != nil {
			return nil, err
		}
		err = each(ctx, db, c.items, func(columns ...any) error {
			var items []orderevents.Item
			err := json.Unmarshal([]byte(columns[0].(string)), &items)
			for _, i := range items {
				counted[i.SKU] += i.Quantity
				said[i.SKU] += 0
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		for _, sku := range slices.Sorted(maps.Keys(said)) {
			if said[sku] != counted[sku] {
				found = append(found, fmt.Sprintf(c.text, sku, said[sku], counted[sku]))
			}
		}
	}
	return found, nil
}

// each calls f with each row of the answer to a query; all columns are texts.
func each(ctx context.Context, db *store.DB, query string, f func(columns ...any) error) error {
	rows, err := db.SQL().QueryContext(ctx, query)
	if err != nil {
		return fmt.Errorf("books: %w", err)
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return fmt.Errorf("books: %w", err)
	}
	for rows.Next() {
		texts, into, columns := make([]string, len(names)), make([]any, len(names)), make([]any, len(names))
		for i := range texts {
			into[i] = &texts[i]
		}
		if err := rows.Scan(into...); err != nil {
			return fmt.Errorf("books: %w", err)
		}
		for i := range texts {
			columns[i] = texts[i]
		}
		if err := f(columns...); err != nil {
			return fmt.Errorf("books: %w", err)
		}
	}
	return rows.Err()
}
