package sagatelemetry_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatelemetry"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type (
	order  struct{ ID string }
	placed struct{ ID string }
	ask    struct{ ID string }
	paid   struct{ ID string }
)

func (placed) EventName() string { return "orders.placed" }
func (ask) EventName() string    { return "payments.ask" }
func (paid) EventName() string   { return "payments.paid" }
func (e paid) EventKey() string  { return e.ID }

type away struct{}

func (away) Counts(context.Context) ([]saga.Count, error) {
	return nil, errors.New("the server is away")
}

// TestTroubleHidesNoOtherMetric: what cannot be counted does not make the collection fail.
func TestTroubleHidesNoOtherMetric(t *testing.T) {
	t.Parallel()
	reader := sdkmetric.NewManualReader()
	sagas, err := sagatelemetry.New(sagatelemetry.Config{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sagas.Instances(away{}); err != nil {
		t.Fatal(err)
	}
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Error(err)
	}
}

// TestSagasAreSeen runs one saga that completes and one that is undone and stuck.
func TestSagasAreSeen(t *testing.T) {
	t.Parallel()
	spans, reader := tracetest.NewSpanRecorder(), sdkmetric.NewManualReader()
	tracers, meters := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)), sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))
	tel, err := telemetry.New(telemetry.Config{TracerProvider: tracers, MeterProvider: meters})
	if err != nil {
		t.Fatal(err)
	}
	sagas, err := sagatelemetry.New(sagatelemetry.Config{TracerProvider: tracers, MeterProvider: meters})
	if err != nil {
		t.Fatal(err)
	}
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db")+"?synchronous=off")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	tr, err := sqlite.New(t.Context(), db, sqlite.Config{Logger: quiet, PollInterval: 20 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	publishing := []bus.PublishMiddleware{tel.Publishing()}
	b, err := bus.New(bus.Config{Transport: tr, Logger: quiet, Middleware: []bus.Middleware{tel.Middleware()}, Publishing: publishing})
	if err != nil {
		t.Fatal(err)
	}
	box := outbox.New(db, outbox.Config{Transport: tr, Logger: quiet, Publishing: publishing})
	failedOnce := false
	def := saga.Definition[order]{
		Name: "checkout", Start: saga.StartOn(func(e placed) (string, order) { return e.ID, order(e) }),
		Steps: []saga.Step[order]{
			{Name: "charge", Retry: saga.Retry{MaxBackoff: time.Millisecond},
				Do: func(ctx context.Context, r *saga.Run[order]) error {
					if !failedOnce {
						failedOnce = true
						return errors.New("not at once")
					}
					return r.Publish(ctx, ask(*r.State))
				},
				Undo:  func(context.Context, *saga.Run[order]) error { return bus.Permanent(errors.New("no money back")) },
				Await: saga.Replies(saga.Continue(func(*order, paid) error { return nil })), Timeout: time.Hour},
			{Name: "ship", Do: func(context.Context, *saga.Run[order]) error { return nil }},
		},
	}
	o, err := saga.New(b, box, saga.Config{Sagas: []saga.Saga{def}, PollInterval: 20 * time.Millisecond, Logger: quiet, Hooks: []saga.Hook{sagas.Hook()}})
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan struct{}, 1)
	bus.Handle(b, "payments", func(ctx context.Context, e ask) error {
		if e.ID == "never" {
			asked <- struct{}{}
			return nil
		}
		return b.Publish(ctx, paid(e))
	})
	reg, err := sagas.Instances(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Start(t.Context()), b.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	until := func(key string, status saga.Status, step string) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			i, err := o.Get(t.Context(), "checkout", key)
			if err == nil && i.Status == status && i.Step == step {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v, %v", i, err)
			}
		}
	}
	ctx, root := tracers.Tracer("test").Start(t.Context(), "request")
	if err := b.Publish(ctx, placed{"good"}); err != nil {
		t.Fatal(err)
	}
	root.End()
	until("good", saga.Completed, "")
	if err := b.Publish(t.Context(), placed{"never"}); err != nil {
		t.Fatal(err)
	}
	<-asked // its Do is done
	if err := o.Compensate(t.Context(), "checkout", "never"); err != nil {
		t.Fatal(err)
	}
	until("never", saga.Stuck, "charge")
	want := []string{
		"postbus.saga.started postbus.saga.name=checkout: 2",
		"postbus.saga.ended postbus.saga.name=checkout,postbus.saga.status=completed: 1",
		"postbus.saga.became_stuck postbus.saga.name=checkout,postbus.saga.step=charge: 1",
		"postbus.saga.attempts.failed postbus.saga.name=checkout,postbus.saga.step=charge,postbus.saga.undo=false: 1",
		"postbus.saga.attempts.failed postbus.saga.name=checkout,postbus.saga.step=charge,postbus.saga.undo=true: 1",
		"postbus.saga.duration postbus.saga.name=checkout,postbus.saga.status=completed: 1",
		"postbus.saga.step.duration postbus.saga.name=checkout,postbus.saga.step=charge,postbus.saga.undo=false: 1",
		"postbus.saga.step.duration postbus.saga.name=checkout,postbus.saga.step=ship,postbus.saga.undo=false: 1",
		"postbus.saga.attempt.duration postbus.saga.name=checkout,postbus.saga.step=charge,postbus.saga.undo=false: 2",
		"postbus.saga.instances postbus.saga.known=true,postbus.saga.name=checkout,postbus.saga.status=stuck,postbus.saga.version=1: 1",
		"postbus.saga.age postbus.saga.known=true,postbus.saga.name=checkout,postbus.saga.status=stuck,postbus.saga.version=1: some",
	}
	// A hook runs after the commit that until sees.
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		got := collect(t, reader)
		missing := slices.DeleteFunc(slices.Clone(want), func(line string) bool { return slices.Contains(got, line) })
		if len(missing) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("no\n%s\nin\n%s", strings.Join(missing, "\n"), strings.Join(got, "\n"))
		}
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), time.Minute)
	defer cancel()
	if err := errors.Join(b.Stop(stop), o.Stop(stop), reg.Unregister(), tr.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}

	var names []string
	for _, s := range spans.Ended() {
		// Each group gets all of the topic "payments", and nobody waits for those that ignore a message.
		if s.SpanContext().TraceID() == root.SpanContext().TraceID() && s.Name() != "process payments" {
			names = append(names, s.Name())
		}
	}
	slices.Sort(names)
	trace := "do checkout/charge,do checkout/charge,do checkout/ship,process orders,request,send orders,send payments,send payments"
	if got := strings.Join(names, ","); got != trace {
		t.Errorf("the trace has\n%s\nwant\n%s", got, trace)
	}
}

// collect returns the metrics of sagas as lines; of a histogram the count.
func collect(t *testing.T, reader *sdkmetric.ManualReader) (lines []string) {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	add := func(name string, set attribute.Set, value any) {
		lines = append(lines, fmt.Sprintf("%s %s: %v", name, set.Encoded(attribute.DefaultEncoder()), value))
	}
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, map[bool]string{true: "some"}[p.Value >= 0])
				}
			case metricdata.Histogram[float64]:
				for _, p := range data.DataPoints {
					add(m.Name, p.Attributes, p.Count)
				}
			}
		}
	}
	return lines
}
