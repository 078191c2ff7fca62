package main

import (
	"context"
	"fmt"

	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
)

// tally is how far the shop has come. Two that are equal mean that nothing has moved in between.
type tally struct {
	lines, unfit                                       int // read, and of them those that could not travel
	submissions                                        int // lines that are orders
	orders, placed, shipped, declined, unpaid, refused int
	charged                                            int
	cents                                              int64 // that were charged
	mails, held                                        int
	unsettled                                          int // payments that are to be refunded
	retried, retries                                   int // orders whose payment took more than one try, and those tries
	setAside, failed                                   int // lines in quarantine, and other messages
}

// count asks the books.
func count(ctx context.Context, db *store.DB) (t tally, err error) {
	err = db.SQL().QueryRowContext(ctx, `select
		(select count(*) from shop_lines), (select count(*) from shop_lines where refused <> ''),
		(select count(*) from shop_submissions), (select count(*) from shop_orders),
		(select count(*) from shop_orders where status = 'placed'), (select count(*) from shop_orders where status = 'shipped'),
		(select count(*) from shop_orders where status = 'declined'), (select count(*) from shop_orders where status = 'unpaid'),
		(select count(*) from shop_orders where status = 'refused'),
		(select count(*) from shop_payments where status = 'charged'),
		(select coalesce(sum(cents), 0) from shop_payments where status = 'charged'),
		(select count(*) from shop_mails), (select count(*) from shop_holds where status = 'held'),
		(select count(*) from shop_payments p join shop_orders o on o.id = p.order_id where o.status = 'unpaid' and p.status <> 'refunded'),
		(select count(*) from shop_payments where retries > 0), (select coalesce(sum(retries), 0) from shop_payments)`,
	).Scan(&t.lines, &t.unfit, &t.submissions, &t.orders, &t.placed, &t.shipped, &t.declined, &t.unpaid, &t.refused,
		&t.charged, &t.cents, &t.mails, &t.held, &t.unsettled, &t.retried, &t.retries)
	if err != nil {
		return t, fmt.Errorf("books: %w", err)
	}
	q := quarantine.New(db, quarantine.Config{})
	if t.setAside, err = q.Count(ctx, quarantine.Filter{Event: intake.LineName}); err != nil {
		return t, err
	}
	all, err := q.Count(ctx, quarantine.Filter{})
	t.failed = all - t.setAside
	return t, err
}

// settled reports whether everything that was read has come to its end, by the books of the modules: no transport can be
// asked, for some do not know what others still have to do.
func (t tally) settled() bool {
	return t.lines == t.submissions+t.setAside+t.unfit && t.placed == 0 && t.mails == t.orders && t.held == 0 && t.unsettled == 0
}
