package telemetry_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{ N int }

func (placed) EventName() string { return "orders.placed" }

type paid struct{ N int }

func (paid) EventName() string { return "payments.paid" }

type behind struct{}

func (behind) Status(context.Context) ([]transport.GroupStatus, error) {
	return []transport.GroupStatus{
		{Topic: "gone", Group: "billing", Err: errors.New("no such table")},
		{Topic: "orders", Group: "billing", Lag: 7, LagAge: time.Minute},
	}, nil
}

type away struct{}

func (away) Status(context.Context) ([]transport.GroupStatus, error) {
	return nil, errors.New("the server is away")
}

// TestTrace: a handler publishes at once and with a delay. The first continues the trace, the other is linked.
func TestTrace(t *testing.T) {
	t.Parallel()
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	tel, err := telemetry.New(telemetry.Config{
		TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)),
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)),
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []transport.StatusReporter{behind{}, away{}} {
		if _, err := tel.Lag(r); err != nil {
			t.Fatal(err)
		}
	}
	tr := memory.New(memory.Config{})
	defer func() { _ = tr.Close() }()
	b, err := bus.New(bus.Config{
		Transport: tr, Logger: slog.New(slog.DiscardHandler),
		Middleware: []bus.Middleware{tel.Middleware()}, Publishing: []bus.PublishMiddleware{tel.Publishing()},
	})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(b, "billing", func(ctx context.Context, _ placed) error {
		return b.Publish(ctx, bus.After(10*time.Millisecond, paid{2}))
	})
	bus.Handle(b, "mail", func(context.Context, paid) error { return bus.SetAside(errors.New("bad address")) })
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	own := map[string]string{"a": "b"}
	if err := b.Publish(t.Context(), bus.WithMetadata(own, placed{1})); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); len(spans.Ended()) < 4 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if err := b.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	by := map[string]sdktrace.ReadOnlySpan{}
	for _, s := range spans.Ended() {
		by[s.Name()] = s
	}
	first, process, second, last := by["send orders"], by["process orders"], by["send payments"], by["process payments"]
	if first == nil || process == nil || second == nil || last == nil {
		t.Fatalf("spans: %v", by)
	}
	if first.SpanKind() != trace.SpanKindProducer || process.SpanKind() != trace.SpanKindConsumer {
		t.Errorf("kinds %v, %v", first.SpanKind(), process.SpanKind())
	}
	if process.Parent().SpanID() != first.SpanContext().SpanID() || second.Parent().SpanID() != process.SpanContext().SpanID() {
		t.Error("the trace is broken")
	}
	if last.Parent().IsValid() || len(last.Links()) != 1 || last.Links()[0].SpanContext.SpanID() != second.SpanContext().SpanID() {
		t.Errorf("delayed: parent %v, links %v", last.Parent(), last.Links())
	}
	if len(own) != 1 {
		t.Errorf("the caller's metadata was changed: %v", own)
	}
	sums := collect(t, reader)
	for name, want := range map[string]int64{
		"messaging.client.sent.messages": 2, "messaging.client.consumed.messages": 2, "postbus.handled": 1,
		"postbus.failed": 1, "postbus.quarantined": 1, "postbus.in_flight": 0, "postbus.lag": 7,
	} {
		if got, ok := sums[name]; !ok || got != want {
			t.Errorf("%s = %d (%v), want %d", name, got, ok, want)
		}
	}
}

func collect(t *testing.T, reader sdkmetric.Reader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	sums := map[string]int64{}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			}
			for _, p := range points {
				sums[m.Name] += p.Value
			}
		}
	}
	return sums
}
