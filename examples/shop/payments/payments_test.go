package payments

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus/bustest"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var ada = orderevents.Payable{OrderID: "o-1", Card: "card-1", Cents: 900}

func TestChargedOnceAndSaidEachTime(t *testing.T) {
	t.Parallel()
	var said bustest.Recorder
	bank := &Bank{}
	m := New(&said, bank)
	for range 3 {
		if err := m.payable(t.Context(), ada); err != nil {
			t.Fatal(err)
		}
	}
	if got := bank.Account(); len(got) != 1 || got["o-1"] != 900 {
		t.Errorf("the bank has %v, want 900 once", got)
	}
	if got := bustest.Published[paymentevents.Charged](&said); len(got) != 3 || got[2] != (paymentevents.Charged{OrderID: "o-1", Cents: 900}) {
		t.Errorf("said %v, want three times the same", got)
	}
}

// The bank was paid, and then nobody could be told: the next delivery tells, and does not pay again.
func TestPublishFailsAfterTheCharge(t *testing.T) {
	t.Parallel()
	down := errors.New("transport down")
	said := bustest.Recorder{Err: down}
	charges := &counting{}
	m := New(&said, charges)
	if err := m.payable(t.Context(), ada); !errors.Is(err, down) {
		t.Fatalf("error %v, want %v", err, down)
	}
	said.Err = nil
	if err := m.payable(t.Context(), ada); err != nil {
		t.Fatal(err)
	}
	if got := bustest.Published[paymentevents.Charged](&said); len(got) != 1 || charges.n != 1 {
		t.Errorf("said %v after %d charges, want one of each", got, charges.n)
	}
}

// counting is a gateway that counts.
type counting struct{ n int }

func (c *counting) Charge(context.Context, string, string, int64) error {
	c.n++
	return nil
}
