package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/examples/shop/inventory"
	"github.com/postbus/postbus/examples/shop/notifications"
	"github.com/postbus/postbus/examples/shop/orders"
	"github.com/postbus/postbus/examples/shop/payments"
	"github.com/postbus/postbus/examples/shop/shipping"
)

// books are the books of all modules, each kept by its module from the events that it has seen. What they say about an
// order must agree.
type books struct {
	Lines         int // read
	SetAside      []setAside
	Orders        orders.Ledger
	Inventory     inventory.Ledger
	Payments      map[string]payments.Outcome
	Bank          map[string]int64
	Shipping      map[string]shipping.Parcel
	Notifications map[string]notifications.Mail
}

// faults returns everything in which the books do not agree; nil if they balance.
func (b *books) faults() []string {
	var found []string
	fault := func(format string, args ...any) { found = append(found, fmt.Sprintf(format, args...)) }

	lines := 0
	for _, e := range b.SetAside {
		if e.Event == intake.LineName {
			lines++
		} else {
			fault("order %s: %s was set aside by %s: %s", e.Key, e.Event, e.Group, oneLine(e.Reason))
		}
	}
	if accounted := len(b.Orders.Orders) + b.Orders.Duplicates + lines; accounted != b.Lines {
		fault("%d lines were read, and %d are accounted for: %d orders, %d duplicates, %d set aside",
			b.Lines, accounted, len(b.Orders.Orders), b.Orders.Duplicates, lines)
	}
	for _, id := range slices.Sorted(maps.Keys(b.Orders.Orders)) {
		for _, wrong := range b.order(b.Orders.Orders[id]) {
			fault("order %s: %s", id, wrong)
		}
	}
	known := b.Orders.Orders
	found = append(found, strangers("inventory", b.Inventory.Holds, known)...)
	found = append(found, strangers("payments", b.Payments, known)...)
	found = append(found, strangers("the bank", b.Bank, known)...)
	found = append(found, strangers("shipping", b.Shipping, known)...)
	found = append(found, strangers("notifications", b.Notifications, known)...)
	found = append(found, b.money()...)
	return append(found, b.stock()...)
}

// order returns in what the other books disagree with the orders module about one order.
func (b *books) order(o orders.Order) (wrong []string) {
	if !o.State.Final() {
		return []string{fmt.Sprintf("came no further than %s", o.State)}
	}
	expect := func(what string, got, want any) {
		if got != want {
			wrong = append(wrong, fmt.Sprintf("%s, but %s is %v, and should be %v", o.State, what, got, want))
		}
	}
	shipped := o.State == orders.Shipped
	hold := map[orders.State]inventory.State{
		orders.Shipped: inventory.Gone, orders.Declined: inventory.Released, orders.Refused: inventory.Refused,
	}[o.State]
	expect("its stock", b.Inventory.Holds[o.ID].State, hold)

	outcome, asked := b.Payments[o.ID]
	received, moved := b.Bank[o.ID]
	expect("a payment", asked, o.State != orders.Refused)
	expect("its declined payment", outcome.Declined, o.State == orders.Declined)
	expect("a receipt of the bank", moved, shipped)
	if shipped {
		expect("what it was charged", outcome.Cents, o.Cents)
		expect("what the bank received", received, o.Cents)
	}

	parcel, packed := b.Shipping[o.ID]
	expect("a parcel", packed, shipped)
	if packed && !slices.Equal(parcel.Items, o.Items) {
		expect("what is in its parcel", fmt.Sprint(parcel.Items), fmt.Sprint(o.Items))
	}
	mail, told := b.Notifications[o.ID]
	expect("a mail", told, true)
	expect("the good news", mail.Shipped, shipped)
	return wrong
}

// strangers returns the orders in a book that the orders module does not know.
func strangers[V any](book string, entries map[string]V, known map[string]orders.Order) (found []string) {
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		if _, ok := known[id]; !ok {
			found = append(found, fmt.Sprintf("order %s: in the books of %s, and not in those of orders", id, book))
		}
	}
	return found
}

// money compares the sums of cents in three books.
func (b *books) money() []string {
	var sold, charged, received int64
	for _, o := range b.Orders.Orders {
		if o.State == orders.Shipped {
			sold += o.Cents
		}
	}
	for _, o := range b.Payments {
		charged += o.Cents
	}
	for _, cents := range b.Bank {
		received += cents
	}
	if sold == charged && charged == received {
		return nil
	}
	return []string{fmt.Sprintf("money: shipped orders are worth %s, payments charged %s, the bank received %s",
		euros(sold), euros(charged), euros(received))}
}

// stock compares the pieces of each SKU: in the account, and with what shipping packed.
func (b *books) stock() (found []string) {
	packed := map[string]int{}
	for _, parcel := range b.Shipping {
		for _, item := range parcel.Items {
			packed[item.SKU] += item.Quantity
		}
	}
	for _, sku := range slices.Sorted(maps.Keys(b.Inventory.Stock)) {
		s := b.Inventory.Stock[sku]
		if s.Opening != s.OnHand+s.Held+s.Gone || s.OnHand < 0 {
			found = append(found, fmt.Sprintf("stock of %s: %d at the start are not %d on hand, %d held and %d gone",
				sku, s.Opening, s.OnHand, s.Held, s.Gone))
		}
		if s.Gone != packed[sku] {
			found = append(found, fmt.Sprintf("stock of %s: %d are gone, and %d are in parcels", sku, s.Gone, packed[sku]))
		}
		if s.Held != 0 {
			found = append(found, fmt.Sprintf("stock of %s: %d are held for orders", sku, s.Held))
		}
		delete(packed, sku)
	}
	for _, sku := range slices.Sorted(maps.Keys(packed)) {
		found = append(found, fmt.Sprintf("stock of %s: %d are in parcels, and there never were any", sku, packed[sku]))
	}
	return found
}
