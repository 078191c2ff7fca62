package middleware_test

import (
	"context"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
)

func TestCorrelation(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		message transport.Message
		want    string
	}{
		"its own":        {transport.Message{ID: "m", CorrelationID: "c"}, "c"},
		"own over alien": {transport.Message{ID: "m", CorrelationID: "c", Metadata: map[string]string{"correlation_id": "w"}}, "c"},
		"watermill's":    {transport.Message{ID: "m", Metadata: map[string]string{"correlation_id": "w"}}, "w"},
		"none":           {transport.Message{ID: "m", Metadata: map[string]string{"other": "x"}}, "m"},
		"empty":          {transport.Message{ID: "m", Metadata: map[string]string{"correlation_id": ""}}, "m"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			original, before := &tc.message, tc.message.CorrelationID
			d := bus.NewDelivery(original, "orders", "billing", 1)
			h := middleware.Correlation()(func(ctx context.Context, d *bus.Delivery) error {
				if got := bus.CorrelationID(bus.WithDelivery(ctx, d)); got != tc.want {
					t.Errorf("what is published within would get correlation id %q, want %q", got, tc.want)
				}
				return nil
			})
			if err := h(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if original.CorrelationID != before {
				t.Error("the shared message was changed")
			}
			if before != "" && d.Message() != original {
				t.Error("a message that has an id was copied")
			}
		})
	}
}

func TestCorrelationAllocates(t *testing.T) { // not parallel: it counts allocations
	wantNoAllocs(t, middleware.Correlation()(innermost()))
}
