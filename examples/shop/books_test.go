package main

import (
	"io"
	"maps"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/examples/shop/inventory"
	"github.com/postbus/postbus/examples/shop/notifications"
	"github.com/postbus/postbus/examples/shop/orders"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments"
	"github.com/postbus/postbus/examples/shop/shipping"
	"github.com/postbus/postbus/transport/memory"
)

// workedThrough returns the books after three orders: one was shipped, one declined, one refused.
func workedThrough(t *testing.T) (b books) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		defer tr.Close()
		s, running, err := open(tr, io.Discard, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := running.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		input := one + "\n" + strings.Replace(two, "card-2", payments.CardDeclined, 1) + "\n" + with("o-3", `{"sku":"yacht","quantity":1,"cents":1}`)
		if err := s.feed(running).Run(t.Context(), strings.NewReader(input)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if err := running.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		b = s.books()
	})
	return b
}

// change replaces an entry of a book by what f makes of it.
func change[V any](book map[string]V, key string, f func(*V)) {
	v := book[key]
	f(&v)
	book[key] = v
}

// Every kind of entry that is wrong, missing or one too many is a fault.
func TestFaults(t *testing.T) {
	balanced := workedThrough(t)
	if f := balanced.faults(); len(f) > 0 {
		t.Fatalf("the books should balance: %q", f)
	}
	for name, tc := range map[string]struct {
		spoil func(*books)
		want  string
	}{
		"a line too many":           {func(b *books) { b.Lines++ }, "4 lines were read, and 3 are accounted for"},
		"a duplicate that was none": {func(b *books) { b.Orders.Duplicates++ }, "3 lines were read, and 4"},
		"not finished": {
			func(b *books) { change(b.Orders.Orders, "o-1", func(o *orders.Order) { o.State = orders.Paid }) },
			"order o-1: came no further than paid",
		},
		"charged twice": {
			func(b *books) { change(b.Payments, "o-1", func(o *payments.Outcome) { o.Cents *= 2 }) },
			"order o-1: shipped, but what it was charged is 1800, and should be 900",
		},
		"the bank has less": {func(b *books) { b.Bank["o-1"]-- }, "the bank received EUR 8.99"},
		"the bank has none": {func(b *books) { delete(b.Bank, "o-1") }, "a receipt of the bank is false"},
		"declined and charged": {
			func(b *books) { b.Bank["o-2"] = 1 }, "order o-2: declined, but a receipt of the bank is true, and should be false",
		},
		"declined and not released": {
			func(b *books) { change(b.Inventory.Holds, "o-2", func(h *inventory.Hold) { h.State = inventory.Held }) },
			"order o-2: declined, but its stock is held, and should be released",
		},
		"declined and shipped":        {func(b *books) { b.Shipping["o-2"] = shipping.Parcel{} }, "order o-2: declined, but a parcel is true"},
		"refused and asked for money": {func(b *books) { b.Payments["o-3"] = payments.Outcome{} }, "order o-3: refused, but a payment is true"},
		"another thing in the parcel": {
			func(b *books) {
				change(b.Shipping, "o-1", func(p *shipping.Parcel) { p.Items = []orderevents.Item{{SKU: "cup", Quantity: 1}} })
			},
			"order o-1: shipped, but what is in its parcel is [{cup 1}], and should be [{cup 2}]",
		},
		"no mail": {func(b *books) { delete(b.Notifications, "o-2") }, "order o-2: declined, but a mail is false"},
		"wrong mail": {
			func(b *books) { change(b.Notifications, "o-2", func(m *notifications.Mail) { m.Shipped = true }) },
			"order o-2: declined, but the good news is true",
		},
		"a stranger in stock":    {func(b *books) { b.Inventory.Holds["o-9"] = inventory.Hold{} }, "order o-9: in the books of inventory, and not"},
		"a stranger's payment":   {func(b *books) { b.Payments["o-9"] = payments.Outcome{} }, "order o-9: in the books of payments"},
		"a stranger at the bank": {func(b *books) { b.Bank["o-9"] = 0 }, "order o-9: in the books of the bank"},
		"a stranger's parcel":    {func(b *books) { b.Shipping["o-9"] = shipping.Parcel{} }, "order o-9: in the books of shipping"},
		"a stranger's mail":      {func(b *books) { b.Notifications["o-9"] = notifications.Mail{} }, "order o-9: in the books of notifications"},
		"stock from nowhere": {
			func(b *books) { change(b.Inventory.Stock, "cup", func(s *inventory.Stock) { s.OnHand++ }) },
			"stock of cup: 2000 at the start are not 1999 on hand, 0 held and 2 gone",
		},
		"stock below nothing": {
			func(b *books) {
				change(b.Inventory.Stock, "cup", func(s *inventory.Stock) { *s = inventory.Stock{OnHand: -2, Gone: 2} })
			},
			"stock of cup: 0 at the start are not -2 on hand",
		},
		"stock still held": {
			func(b *books) { change(b.Inventory.Stock, "jug", func(s *inventory.Stock) { s.OnHand--; s.Held++ }) },
			"stock of jug: 1 are held for orders",
		},
		"stock without a parcel": {
			func(b *books) { change(b.Inventory.Stock, "jug", func(s *inventory.Stock) { s.OnHand--; s.Gone++ }) },
			"stock of jug: 1 are gone, and 0 are in parcels",
		},
		"a parcel without stock": {func(b *books) { delete(b.Inventory.Stock, "cup") }, "stock of cup: 2 are in parcels, and there never were any"},
		"an event that was set aside": {
			func(b *books) {
				b.SetAside = []setAside{{Event: "orders.paid", Group: "shipping", Key: "o-1", Reason: io.EOF}}
			},
			"order o-1: orders.paid was set aside by shipping: EOF",
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := balanced
			b.Orders.Orders = maps.Clone(b.Orders.Orders)
			b.Inventory.Stock, b.Inventory.Holds = maps.Clone(b.Inventory.Stock), maps.Clone(b.Inventory.Holds)
			b.Payments, b.Bank = maps.Clone(b.Payments), maps.Clone(b.Bank)
			b.Shipping, b.Notifications = maps.Clone(b.Shipping), maps.Clone(b.Notifications)
			tc.spoil(&b)
			if f := strings.Join(b.faults(), "\n"); !strings.Contains(f, tc.want) {
				t.Errorf("faults:\n%s\nwant one that says %q", f, tc.want)
			}
		})
	}
}
