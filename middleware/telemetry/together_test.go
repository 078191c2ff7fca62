package telemetry_test

import (
	"context"
	"sync"
	"testing"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
)

// TestTogether: two buses of one meter provider, many topics, and a reader that wants what is new: nothing is counted twice or
// not at all.
func TestTogether(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader(sdkmetric.WithTemporalitySelector(func(sdkmetric.InstrumentKind) metricdata.Temporality {
		return metricdata.DeltaTemporality
	}))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	const rounds = 1000
	got := map[string]int64{}
	add := func() {
		for name, n := range collect(t, reader) {
			got[name] += n
		}
	}
	var running sync.WaitGroup
	for range 2 {
		tel, err := telemetry.New(telemetry.Config{MeterProvider: meters})
		if err != nil {
			t.Fatal(err)
		}
		publish := tel.Publishing()(func(context.Context, string, []transport.Message) error { return nil })
		handle := tel.Middleware()(func(_ context.Context, d *bus.Delivery) error {
			if d.Attempt == 2 {
				return bus.ErrInvalid
			}
			return nil
		})
		for _, topic := range []string{"orders", "payments"} {
			running.Go(func() {
				for i := range rounds {
					_ = publish(t.Context(), topic, make([]transport.Message, 2))
					_ = handle(t.Context(), bus.NewDelivery(&transport.Message{}, topic, "billing", 1+i%2))
				}
			})
		}
	}
	for range 20 {
		add()
	}
	running.Wait()
	add()
	for name, want := range map[string]int64{
		"messaging.client.sent.messages": 8 * rounds, "messaging.client.consumed.messages": 4 * rounds,
		"postbus.handled": 2 * rounds, "postbus.failed": 2 * rounds, "postbus.retried": 2 * rounds, "postbus.in_flight": 0,
	} {
		if got[name] != want {
			t.Errorf("%s = %d, want %d", name, got[name], want)
		}
	}
}
