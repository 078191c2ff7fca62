package payments

import (
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
)

func TestDeclinedIsAnAnswerAndNoError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bank := &Bank{}
		p := bustest.Run(t, func(b *bus.Bus) { New(b, bank).Wire(b) })
		p.Publish(orderevents.Payable{OrderID: "o-2", Card: CardDeclined, Cents: 5})
		p.Settle()
		if got := bustest.Published[paymentevents.Declined](p); len(got) != 1 || got[0].Reason != "card declined" {
			t.Errorf("said %v, want that it was declined", got)
		}
		if got := bank.Account(); len(got) != 0 {
			t.Errorf("the bank has %v, want nothing", got)
		}
	})
}

func TestChargeSurvivesAnOutageOfTheBank(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bank := &Bank{}
		p := bustest.Run(t, func(b *bus.Bus) { New(b, bank).Wire(b) })
		p.Publish(orderevents.Payable{OrderID: "o-3", Card: CardFlaky, Cents: 5})
		p.Settle()
		if got := bustest.Published[paymentevents.Charged](p); len(got) != 1 {
			t.Errorf("said %v, want that it was charged, once", got)
		}
	})
}
