package telemetry_test

import (
	"context"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
)

// TestExemplars: from each histogram there is a way to the span that was measured.
func TestExemplars(t *testing.T) {
	t.Parallel()
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	tel, err := telemetry.New(telemetry.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		t.Fatal(err)
	}
	publish := tel.Publishing()(func(context.Context, string, []transport.Message) error { return nil })
	handle := tel.Middleware()(func(context.Context, *bus.Delivery) error { return nil })
	m := transport.Message{Time: time.Now()}
	if err := publish(t.Context(), "orders", []transport.Message{m}); err != nil {
		t.Fatal(err)
	}
	if err := handle(t.Context(), bus.NewDelivery(&m, "orders", "billing", 1)); err != nil {
		t.Fatal(err)
	}
	want := map[string]trace.SpanID{}
	for _, s := range spans.Ended() {
		want[s.Name()] = s.SpanContext().SpanID()
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := map[string]trace.SpanID{}
	for _, m := range all.ScopeMetrics[0].Metrics {
		if h, ok := m.Data.(metricdata.Histogram[float64]); ok {
			for _, e := range h.DataPoints[0].Exemplars {
				got[m.Name] = trace.SpanID(e.SpanID)
			}
		}
	}
	for name, span := range map[string]string{
		"messaging.client.operation.duration": "send orders", "messaging.process.duration": "process orders", "postbus.age": "process orders",
	} {
		if id, ok := got[name]; !ok || id != want[span] {
			t.Errorf("the exemplar of %s is of span %v, want %v", name, id, want[span])
		}
	}
}
