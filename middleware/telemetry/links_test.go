package telemetry_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/sqlite"
)

// traced is a bus on memory: whose handler fails as often as it is told.
type traced struct {
	*bus.Bus
	transport *memory.Transport
	telemetry *telemetry.Telemetry
	spans     *tracetest.SpanRecorder
	failures  int
	err       error
}

// start starts the bus with inner inside of the telemetry.
func (w *traced) start(t *testing.T, inner ...bus.Middleware) {
	t.Helper()
	var err error
	if w.Bus, err = bus.New(bus.Config{
		Transport: w.transport, Logger: slog.New(slog.DiscardHandler), Publishing: []bus.PublishMiddleware{w.telemetry.Publishing()},
		Middleware: append([]bus.Middleware{w.telemetry.Middleware()}, inner...),
	}); err != nil {
		t.Fatal(err)
	}
	bus.Handle(w.Bus, "billing", func(context.Context, placed) error {
		if w.failures--; w.failures >= 0 { // one message, and so one delivery at a time
			return w.err
		}
		return nil
	})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(w.Stop(context.Background()), w.transport.Close()); err != nil {
			t.Error(err)
		}
	})
}

func newTraced(t *testing.T) *traced {
	t.Helper()
	w := &traced{spans: tracetest.NewSpanRecorder(), transport: memory.New(memory.Config{})}
	var err error
	w.telemetry, err = telemetry.New(telemetry.Config{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(w.spans))})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// want waits until as many deliveries were handled, and verifies that the first is a child of the one publication, and that
// each later one is linked to it in a trace of its own.
func (w *traced) want(t *testing.T, deliveries int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); len(w.spans.Ended()) < 1+deliveries && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	var send sdktrace.ReadOnlySpan
	var process []sdktrace.ReadOnlySpan
	for _, s := range w.spans.Ended() {
		if s.Name() == "send orders" && send == nil {
			send = s
		} else {
			process = append(process, s)
		}
	}
	if send == nil || len(process) != deliveries {
		t.Fatalf("spans: %v and %v", send, process)
	}
	for i, s := range process {
		if s.Name() != "process orders" {
			t.Errorf("there is a span %q", s.Name())
		}
		if i == 0 {
			if s.Parent().SpanID() != send.SpanContext().SpanID() || len(s.Links()) != 0 {
				t.Errorf("the first has the parent %v and the links %v", s.Parent(), s.Links())
			}
			continue
		}
		if s.Parent().IsValid() || s.SpanContext().TraceID() == send.SpanContext().TraceID() || len(s.Links()) != 1 ||
			s.Links()[0].SpanContext.SpanID() != send.SpanContext().SpanID() {
			t.Errorf("delivery %d has the parent %v and the links %v", i+1, s.Parent(), s.Links())
		}
	}
}

func TestTraceOfDelayedRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newTraced(t)
		w.failures, w.err = 2, errors.New("busy")
		w.start(t, middleware.DelayedRetry(middleware.DelayedRetryConfig{Delays: []time.Duration{5 * time.Second}}))
		if err := w.Publish(t.Context(), placed{1}); err != nil {
			t.Fatal(err)
		}
		w.want(t, 3)
	})
}

func TestTraceOfReplay(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	w.failures, w.err = 1, bus.Permanent(errors.New("declined"))
	q, err := quarantine.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "q.db"),
		quarantine.Config{Transport: w.transport, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	w.start(t, middleware.Quarantined(q, middleware.QuarantineConfig{Logger: slog.New(slog.DiscardHandler)}))
	if err := w.Publish(t.Context(), placed{1}); err != nil {
		t.Fatal(err)
	}
	w.want(t, 1)
	if r, err := q.Replay(t.Context(), quarantine.Filter{Group: "billing"}, quarantine.ReplayOptions{}); err != nil || r.Replayed != 1 {
		t.Fatal(r, err)
	}
	w.want(t, 2)
}

// TestTraceThroughOutbox: what is in the transaction is the publication, and the Forwarder is no part of the trace.
func TestTraceThroughOutbox(t *testing.T) {
	t.Parallel()
	w := newTraced(t)
	w.start(t)
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	box := outbox.New(db, outbox.Config{Publishing: []bus.PublishMiddleware{w.telemetry.Publishing()}})
	if err := box.Tx(t.Context(), func(tx *outbox.Tx) error { return tx.Publish(t.Context(), placed{1}) }); err != nil {
		t.Fatal(err)
	}
	f, err := outbox.NewForwarder(box, w.transport, outbox.ForwarderConfig{})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	w.want(t, 1)
}
