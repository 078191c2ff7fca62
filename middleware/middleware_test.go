package middleware_test

import (
	"context"
	"errors"
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errFlaky = errors.New("flaky")

// delivery is what a bus would hand to the chain.
func delivery() *bus.Delivery {
	return bus.NewDelivery(&transport.Message{ID: "m1", Name: "orders.placed", CorrelationID: "c1"}, "orders", "billing", 1)
}

// innermost counts a try, as the bus does, and returns the next of errs, the last again and again.
func innermost(errs ...error) bus.Handler {
	return func(_ context.Context, d *bus.Delivery) error {
		d.Tries++
		if len(errs) == 0 {
			return nil
		}
		return errs[min(d.Tries, len(errs))-1]
	}
}

func wantNoAllocs(t *testing.T, h bus.Handler) {
	t.Helper()
	d, ctx := delivery(), context.Background()
	if n := testing.AllocsPerRun(100, func() {
		d.Tries = 0
		if err := h(ctx, d); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations on the success path, want 0", n)
	}
}
