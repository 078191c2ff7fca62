package sagatelemetryfx_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"
	"time"

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
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagafx"
	"github.com/postbus/postbus/saga/sagatelemetry/sagatelemetryfx"
	"github.com/postbus/postbus/store/storefx"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{ ID string }

func (placed) EventName() string { return "orders.placed" }

func TestSagasOfAnApplicationAreSeen(t *testing.T) {
	t.Parallel()
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db")
	def := saga.Definition[placed]{
		Name: "checkout", Start: saga.StartOn(func(e placed) (string, placed) { return e.ID, e }),
		Steps: []saga.Step[placed]{
			{Name: "ship", Do: func(context.Context, *saga.Run[placed]) error { return nil }},
			{Name: "wait", MayWaitForever: true, Await: saga.Replies(saga.Continue(func(*placed, placed) error { return nil }, func(e placed) string { return e.ID }))},
		},
	}
	var events bus.Publisher
	var o *saga.Orchestrator
	app := fx.New(
		sagatelemetryfx.Module, telemetryfx.Module, sagafx.Module, sagafx.Define(def), busfx.Module, outboxfx.Module, storefx.Module,
		configfx.Load("", []string{"POSTBUS_TRANSPORT=" + url, "POSTBUS_STORE=" + url}),
		fx.Provide(
			func() trace.TracerProvider { return sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)) },
			func() metric.MeterProvider { return sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)) },
		),
		fx.Supply(slog.New(slog.DiscardHandler)), fx.NopLogger, fx.Populate(&events, &o),
	)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := events.Publish(t.Context(), placed{"o1"}); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		i, err := o.Get(t.Context(), "checkout", "o1")
		if err == nil && i.Step == "wait" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, %v", i, err)
		}
	}
	// A hook counts after the commit that Get sees.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		names := metrics(t, reader)
		if slices.Contains(names, "postbus.saga.instances") && slices.Contains(names, "postbus.saga.started") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("while it runs: %q", names)
		}
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if names := metrics(t, reader); slices.Contains(names, "postbus.saga.instances") {
		t.Errorf("after the stop: %q", names)
	}
	if !slices.ContainsFunc(spans.Ended(), func(s sdktrace.ReadOnlySpan) bool { return s.Name() == "do checkout/ship" }) {
		t.Error("no span of the step")
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
