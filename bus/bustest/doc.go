// Package bustest tests programs that use package bus, without a server and without a sleep.
//
// A module that only publishes takes a [Recorder], whose zero value is a bus.Publisher. A module that also handles runs
// on a bus of its own, in a bubble of testing/synctest so that delays and retries pass at once:
//
//	func TestChargeSurvivesAnOutage(t *testing.T) {
//		synctest.Test(t, func(t *testing.T) {
//			p := bustest.Run(t, func(b *bus.Bus) { wire(b, &Billing{Gateway: &flaky{failures: 2}, Events: b}) })
//			p.Publish(Placed{OrderID: "o1"})
//			p.Settle() // nothing in flight, nothing scheduled
//			if got := bustest.Published[Paid](p); len(got) != 1 {
//				t.Errorf("%d payments, want 1", len(got))
//			}
//		})
//	}
//
// With [Adversarial] the same test shows whether the handlers are idempotent: messages come again, those of different
// keys change places, and the process dies at every step between receiving a message and settling it.
package bustest
