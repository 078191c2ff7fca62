package telemetryfx_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/middleware/telemetry/telemetryfx"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{}

func (placed) EventName() string { return "orders.placed" }

type billing struct{ handled chan bool }

func (b *billing) charge(context.Context, placed) error { b.handled <- true; return nil }

func TestAnApplicationIsMeasured(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		signals         string
		traces, metrics bool
	}{{"", true, true}, {"all", true, true}, {"traces", true, false}, {"metrics", false, true}, {"none", false, false}} {
		t.Run(tc.signals, func(t *testing.T) {
			t.Parallel()
			measured(t, tc.signals, tc.traces, tc.metrics)
		})
	}
}

func measured(t *testing.T, signals string, hasTraces, hasMetrics bool) {
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	service := &billing{make(chan bool, 1)}
	var events bus.Publisher
	app := fx.New(
		telemetryfx.Module,
		busfx.Handle("billing", (*billing).charge),
		busfx.Module,
		configfx.Load("", []string{
			"POSTBUS_TRANSPORT=sqlite:" + filepath.Join(t.TempDir(), "shop.db"),
			"POSTBUS_TELEMETRY__SIGNALS=" + signals, "POSTBUS_TELEMETRY__SYSTEM=sqlite",
		}),
		fx.Provide(
			func() trace.TracerProvider { return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)) },
			func() metric.MeterProvider { return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) },
		),
		fx.Supply(service, slog.New(slog.DiscardHandler)), fx.NopLogger, fx.Populate(&events),
	)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := events.Publish(t.Context(), placed{}); err != nil {
		t.Fatal(err)
	}
	<-service.handled
	if names := metrics(t, reader); slices.Contains(names, "postbus.lag") != hasMetrics {
		t.Errorf("while it runs: %q", names)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	var traced []string
	for _, s := range spans.Ended() {
		traced = append(traced, s.Name())
		if !slices.Contains(s.Attributes(), attribute.String("messaging.system", "sqlite")) {
			t.Errorf("%s has the attributes %v", s.Name(), s.Attributes())
		}
	}
	if slices.Contains(traced, "send orders") != hasTraces || slices.Contains(traced, "process orders") != hasTraces {
		t.Errorf("traced %q", traced)
	}
	if names := metrics(t, reader); slices.Contains(names, "postbus.handled") != hasMetrics || slices.Contains(names, "postbus.lag") {
		t.Errorf("after the stop: %q", names)
	}
}

// metrics are the names of what is measured now.
func metrics(t *testing.T, reader sdkmetric.Reader) (names []string) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		t.Error(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			names = append(names, m.Name)
		}
	}
	return names
}
