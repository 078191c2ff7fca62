package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/postbus/postbus/examples/shop/payments"
	"github.com/postbus/postbus/store"
)

// Every kind of entry that is wrong, missing or one too many is a fault.
func TestFaults(t *testing.T) {
	t.Parallel()
	// One order was shipped, one declined, one refused.
	file := filepath.Join(t.TempDir(), "shop.db")
	input := one + "\n" + strings.Replace(two, "card-2", payments.CardDeclined, 1) + "\n" + with("o-3", `{"sku":"yacht","quantity":1,"cents":1}`)
	run(t, input, "--orders", "-", "--transport", "sqlite:"+file+"?synchronous=off").expect(t, exitOK, "The books balance.")
	balanced, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct{ spoil, want string }{
		"a line too many":           {`insert into shop_lines values ('x', 4, '')`, "4 lines were read, and 3 are accounted for"},
		"a duplicate that was none": {`insert into shop_submissions values ('x', 'o-1')`, "3 lines were read, and 4"},
		"not finished":              {`update shop_orders set status = 'placed' where id = 'o-1'`, "order o-1: came no further than placed"},
		"charged twice": {`update shop_payments set cents = 2 * cents where order_id = 'o-1'`,
			"order o-1: shipped for 900 cents, but its payment is charged, of 1800 cents"},
		"not charged":           {`delete from shop_payments where order_id = 'o-1'`, "but its payment is missing"},
		"the bank has less":     {`update bank_account set cents = cents - 1`, "but the bank has received 899"},
		"the bank has none":     {`delete from bank_account`, "but the bank has received 0"},
		"declined and charged":  {`insert into bank_account values ('o-2', 1)`, "order o-2: declined for 1890 cents, but the bank has received 1"},
		"declined and not let":  {`update shop_holds set status = 'held' where order_id = 'o-2'`, "order o-2: declined, but its stock is held"},
		"declined and shipped":  {`insert into shop_parcels values ('o-2', '[]')`, "order o-2: declined, with items"},
		"refused and asked":     {`insert into shop_payments values ('o-3', 'charged', 1, 0)`, "order o-3: refused for 1 cents, but its payment is charged"},
		"another parcel":        {`update shop_parcels set items = '[{"sku":"cup","quantity":1}]'`, `in its parcel is [{"sku":"cup","quantity":1}]`},
		"no mail":               {`delete from shop_mails where order_id = 'o-2'`, "order o-2: declined, but the mail about it says nothing"},
		"wrong mail":            {`update shop_mails set about = 'shipped' where order_id = 'o-2'`, "order o-2: declined, but the mail about it says shipped"},
		"a stranger in stock":   {`insert into shop_holds values ('o-9', '[]', 'gone')`, "order o-9: in the books of inventory, and not"},
		"a stranger's payment":  {`insert into shop_payments values ('o-9', 'charged', 1, 0)`, "order o-9: in the books of payments"},
		"a stranger's money":    {`insert into bank_account values ('o-9', 1)`, "order o-9: in the books of the bank"},
		"a stranger's parcel":   {`insert into shop_parcels values ('o-9', '[]')`, "order o-9: in the books of shipping"},
		"a stranger's mail":     {`insert into shop_mails values ('o-9', '', '', '')`, "order o-9: in the books of notifications"},
		"stock from nowhere":    {`update shop_stock set on_hand = on_hand + 1 where sku = 'cup'`, "stock of cup: 2000 at the start are not 1999 on hand, 0 held and 2 gone"},
		"stock below nothing":   {`update shop_stock set opening = 0, on_hand = -2 where sku = 'cup'`, "stock of cup: 0 at the start are not -2 on hand"},
		"stock still held":      {`update shop_stock set on_hand = on_hand - 1, held = 1 where sku = 'jug'`, "stock of jug: 1 are held, and orders hold 0"},
		"stock without parcel":  {`update shop_stock set on_hand = on_hand - 1, gone = 1 where sku = 'jug'`, "stock of jug: 1 are gone, and 0 are in parcels"},
		"a parcel of nothing":   {`delete from shop_stock where sku = 'cup'`, "stock of cup: 0 are gone, and 2 are in parcels"},
		"more held than stands": {`update shop_holds set status = 'held' where order_id = 'o-1'`, "stock of cup: 0 are held, and orders hold 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "shop.db")
			if err := os.WriteFile(file, balanced, 0o600); err != nil {
				t.Fatal(err)
			}
			url := "sqlite:" + file + "?synchronous=off"
			db, err := store.Open(t.Context(), url)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if _, err := db.SQL().ExecContext(t.Context(), tc.spoil); err != nil {
				t.Fatal(err)
			}
			var e ending
			if err := e.audit(t.Context(), url); err != nil {
				t.Fatal(err)
			}
			if f := strings.Join(e.faults, "\n"); !strings.Contains(f, tc.want) {
				t.Errorf("faults:\n%s\nwant one that says %q", f, tc.want)
			}
		})
	}
}
