package main

import (
	"testing"
	"time"

	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
)

func TestPaymentThatNeverComes(t *testing.T) {
	t.Parallel()
	p := sagatest.New(t, Checkout)
	p.Publish(Placed{OrderID: "o-1"})
	p.Advance(15 * time.Minute) // in no time
	if i := p.Instance("checkout", "o-1"); i.Status != saga.Compensated {
		t.Errorf("%s: %s", i.Status, i.Error)
	}
	if asked := sagatest.Published[Requested](p); len(asked) != 1 {
		t.Errorf("the payment was asked for %d times", len(asked))
	}
}

// TestEndsEverywhere ends the process at each point where one can end. It comes to the same.
func TestEndsEverywhere(t *testing.T) {
	t.Parallel()
	sagatest.Everywhere(t, func() []saga.Saga { return []saga.Saga{Checkout} }, func(p *sagatest.Probe) {
		p.Publish(Placed{OrderID: "o-1"}, Captured{OrderID: "o-1"})
	}, nil)
}
