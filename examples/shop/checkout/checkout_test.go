package checkout

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/checkout/checkoutevents"
	"github.com/postbus/postbus/examples/shop/inventory/stockevents"
	"github.com/postbus/postbus/examples/shop/orders/orderevents"
	"github.com/postbus/postbus/examples/shop/payments/paymentevents"
	"github.com/postbus/postbus/examples/shop/shipping/shipmentevents"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const id = "o-1"

// Each way through the checkout, with the process ending at each point where one can end.
func TestCheckout(t *testing.T) {
	t.Parallel()
	reserved, charged, pending := stockevents.Reserved{OrderID: id}, paymentevents.Charged{OrderID: id}, paymentevents.Pending{OrderID: id}
	declined, shipped := paymentevents.Declined{OrderID: id, Reason: "no money"}, shipmentevents.Shipped{OrderID: id}
	for name, tc := range map[string]struct {
		replies   []bus.Event
		wait      time.Duration
		status    saga.Status
		cancelled checkoutevents.Outcome
		refunds   int
	}{
		"shipped":                {[]bus.Event{reserved, charged, shipped}, 0, saga.Completed, "", 0},
		"refused":                {[]bus.Event{stockevents.Refused{OrderID: id, Reason: "sold out"}}, 0, saga.Compensated, checkoutevents.Refused, 0},
		"declined":               {[]bus.Event{reserved, declined}, 0, saga.Compensated, checkoutevents.Declined, 1},
		"the bank is silent":     {[]bus.Event{reserved}, patience, saga.Compensated, checkoutevents.Unpaid, 1},
		"confirmed":              {[]bus.Event{reserved, pending, charged, shipped}, 0, saga.Completed, "", 0},
		"confirmed and declined": {[]bus.Event{reserved, pending, declined}, 0, saga.Compensated, checkoutevents.Declined, 1},
		"never confirmed":        {[]bus.Event{reserved, pending}, confirmation, saga.Compensated, checkoutevents.Unpaid, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sagatest.Everywhere(t, func() []saga.Saga { return []saga.Saga{Checkout} }, func(p *sagatest.Probe) {
				p.Publish(orderevents.Placed{OrderID: id, Customer: "ada@example.com", Card: "card-1", Cents: 900})
				p.Publish(tc.replies...)
				if tc.wait > 0 {
					p.Advance(tc.wait)
				}
			}, func(t testing.TB, p *sagatest.Probe) {
				if i := p.Instance("checkout", id); i.Status != tc.status {
					t.Errorf("the checkout is %s at %q, want %s: %s", i.Status, i.Step, tc.status, i.Error)
				}
				if got := sagatest.Published[checkoutevents.Unpayable](p); len(got) != tc.refunds {
					t.Errorf("%d refunds, want %d", len(got), tc.refunds)
				}
				switch got := sagatest.Published[checkoutevents.Cancelled](p); {
				case tc.cancelled == "" && len(got) == 0:
				case len(got) != 1 || got[0].Outcome != tc.cancelled || got[0].Reason == "" || got[0].Customer != "ada@example.com":
					t.Errorf("cancelled %+v, want once, as %q", got, tc.cancelled)
				}
			})
		})
	}
}
