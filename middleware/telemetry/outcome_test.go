package telemetry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
)

// TestOutcomes has one delivery of each outcome, and looks at what is counted and what the span says.
func TestOutcomes(t *testing.T) {
	t.Parallel()
	stopped, stop := context.WithCancel(t.Context())
	stop()
	for name, tc := range map[string]struct {
		ctx     context.Context
		attempt int
		handle  func(ctx context.Context, d *bus.Delivery) error
		counts  map[string]int64 // besides what each delivery counts
		kind    string           // error.type
		failure bool
	}{
		"handled":     {handle: func(context.Context, *bus.Delivery) error { return nil }, counts: map[string]int64{"postbus.handled": 1}},
		"retried":     {attempt: 3, handle: func(_ context.Context, d *bus.Delivery) error { d.Tries = 2; return nil }, counts: map[string]int64{"postbus.handled": 1, "postbus.retried": 2}},
		"failed":      {handle: func(context.Context, *bus.Delivery) error { return errors.New("busy") }, counts: map[string]int64{"postbus.failed": 1}, kind: "_OTHER", failure: true},
		"permanent":   {handle: func(context.Context, *bus.Delivery) error { return bus.Permanent(errors.New("declined")) }, counts: map[string]int64{"postbus.failed": 1}, kind: "permanent", failure: true},
		"timeout":     {handle: func(context.Context, *bus.Delivery) error { return fmt.Errorf("late: %w", context.DeadlineExceeded) }, counts: map[string]int64{"postbus.failed": 1}, kind: "timeout", failure: true},
		"quarantined": {handle: func(context.Context, *bus.Delivery) error { return bus.SetAside(errors.New("declined")) }, counts: map[string]int64{"postbus.failed": 1, "postbus.quarantined": 1}, kind: "quarantined", failure: true},
		"panic":       {handle: func(context.Context, *bus.Delivery) error { panic("poison") }, counts: map[string]int64{"postbus.failed": 1}, kind: "panic", failure: true},
		"interrupted": {ctx: stopped, handle: func(ctx context.Context, _ *bus.Delivery) error { return fmt.Errorf("retry: %w", ctx.Err()) }, kind: "interrupted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
			tel, err := telemetry.New(telemetry.Config{
				TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
				MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)), System: "rabbitmq",
			})
			if err != nil {
				t.Fatal(err)
			}
			ctx := tc.ctx
			if ctx == nil {
				ctx = t.Context()
			}
			m := &transport.Message{ID: "m-1", Name: "orders.placed", CorrelationID: "root", Time: time.Now().Add(-time.Minute)}
			func() {
				defer func() { _ = recover() }()
				_ = tel.Middleware()(tc.handle)(ctx, bus.NewDelivery(m, "orders", "billing", max(1, tc.attempt)))
			}()
			want := map[string]int64{"messaging.client.consumed.messages": 1, "postbus.in_flight": 0}
			for k, v := range tc.counts {
				want[k] = v
			}
			if got := collect(t, reader); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("counted %v, want %v", got, want)
			}
			if n, sum := histogram(t, reader, "postbus.age"); n != 1 || sum < 59 || sum > 600 {
				t.Errorf("the age is %v s in %d measurements", sum, n)
			}
			if n, _ := histogram(t, reader, "messaging.process.duration"); n != 1 {
				t.Errorf("%d durations", n)
			}
			if len(spans.Ended()) != 1 {
				t.Fatalf("%d spans", len(spans.Ended()))
			}
			s := spans.Ended()[0]
			attrs := attribute.NewSet(s.Attributes()...)
			for key, want := range map[attribute.Key]string{
				"messaging.system": "rabbitmq", "messaging.destination.name": "orders", "messaging.consumer.group.name": "billing",
				"messaging.operation.name": "process", "messaging.operation.type": "process", "messaging.message.id": "m-1",
				"messaging.message.conversation_id": "root", "error.type": tc.kind,
			} {
				if got, _ := attrs.Value(key); got.String() != want && !(want == "" && !attrs.HasValue(key)) {
					t.Errorf("%s is %q, want %q", key, got.String(), want)
				}
			}
			if (s.Status().Code == codes.Error) != tc.failure {
				t.Errorf("the status is %v", s.Status())
			}
		})
	}
}

func histogram(t *testing.T, reader sdkmetric.Reader, name string) (n uint64, sum float64) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == name {
				for _, p := range h.DataPoints {
					n, sum = n+p.Count, sum+p.Sum
				}
			}
		}
	}
	return n, sum
}
