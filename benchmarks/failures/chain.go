package failures

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/dedup"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/postgres" // the scheme
)

// chainCases hold a bus with middleware against one without any.
var chainCases = []bench.Case{
	{Name: "standard-chain-memory", Ours: inMemory(standard), Peers: []bench.Peer{{Name: "bare-memory", Run: inMemory(bare), Goal: 0.85}}},
	{Name: "telemetry-memory", Ours: inMemory(dropping), Peers: []bench.Peer{
		{Name: "bare-memory", Run: inMemory(bare), Goal: 0.85}, {Name: "sdk-by-hand", Run: inMemory(byHand(sdktrace.NeverSample())), Goal: 0.9},
	}},
	{Name: "telemetry-sampled-memory", Ours: inMemory(sampled), Peers: []bench.Peer{
		{Name: "bare-memory", Run: inMemory(bare)}, {Name: "sdk-by-hand", Run: inMemory(byHand(sdktrace.AlwaysSample())), Goal: 0.9},
	}},
	{Name: "telemetry-without-sdk-memory", Ours: inMemory(withoutSDK), Peers: []bench.Peer{{Name: "bare-memory", Run: inMemory(bare)}}},
	{Name: "standard-chain-postgres", N: 20_000, Ours: onPostgresLog(standard), Peers: []bench.Peer{{Name: "bare-postgres", Run: onPostgresLog(bare), Goal: 0.95}}},
}

// around is what a bus has around its handlers and its publishing, and what ends it.
type around struct {
	middleware []bus.Middleware
	publishing []bus.PublishMiddleware
	end        func(context.Context) error
}

func bare() (around, error) { return around{end: func(context.Context) error { return nil }}, nil }

var quiet = slog.New(slog.DiscardHandler)

// standard is the standard chain with all its parts but telemetry, which is a case of its own. Nothing fails, so that
// nothing comes to the quarantine.
func standard() (around, error) {
	a, err := bare()
	a.middleware = middleware.Standard(middleware.StandardConfig{
		KillSwitch: middleware.NewKillSwitch(middleware.KillSwitchConfig{Logger: quiet}),
		Log:        middleware.LogConfig{Logger: quiet},
		Quarantine: nobody{},
		Delays:     []time.Duration{time.Minute, time.Hour},
		Dedup:      dedup.New(dedup.Config{Logger: quiet}).Middleware,
		Timeout:    30 * time.Second,
	})
	return a, err
}

// nobody is a quarantine that nothing comes to.
type nobody struct{}

func (nobody) Put(context.Context, *bus.Delivery, error) error {
	return errors.New("nothing should fail")
}

// dropping measures everything, and traces what a sampler lets through, which is nothing: what all but a few messages of a
// busy program cost. Metrics go to a reader that nobody reads.
func dropping() (around, error) { return withTelemetry(sdktrace.NeverSample()) }

// sampled has a span for each publication and each delivery, for an exporter that does nothing.
func sampled() (around, error) { return withTelemetry(sdktrace.AlwaysSample()) }

func withTelemetry(sampler sdktrace.Sampler) (around, error) {
	traces, meters, end := providers(sampler)
	return measured(telemetry.Config{TracerProvider: traces, MeterProvider: meters}, end)
}

// withoutSDK has the middleware in a program that installed no SDK.
func withoutSDK() (around, error) {
	return measured(telemetry.Config{}, func(context.Context) error { return nil })
}

func measured(cfg telemetry.Config, end func(context.Context) error) (around, error) {
	t, err := telemetry.New(cfg)
	if err != nil {
		return around{}, err
	}
	return around{[]bus.Middleware{t.Middleware()}, []bus.PublishMiddleware{t.Publishing()}, end}, nil
}

func providers(sampler sdktrace.Sampler) (*sdktrace.TracerProvider, *sdkmetric.MeterProvider, func(context.Context) error) {
	traces := sdktrace.NewTracerProvider(sdktrace.WithSampler(sampler), sdktrace.WithBatcher(idle{}))
	meters := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))
	return traces, meters, func(ctx context.Context) error { return errors.Join(traces.Shutdown(ctx), meters.Shutdown(ctx)) }
}

// idle is an exporter that does nothing.
type idle struct{}

func (idle) ExportSpans(context.Context, []sdktrace.ReadOnlySpan) error { return nil }
func (idle) Shutdown(context.Context) error                             { return nil }

// event is the i-th of a run. No two are equal.
func event(i int) placed { return placed{"order-1001", "customer-4711", int64(i) + 1} }

// total verifies that each of n events came once: their cents add up to a known sum.
type total struct {
	cents atomic.Int64
	want  int64
	done  chan struct{}
}

func newTotal(n int) *total {
	return &total{want: int64(n) * (int64(n) + 1) / 2, done: make(chan struct{})}
}

func (t *total) handle(_ context.Context, e placed) error {
	if t.cents.Add(e.Cents) == t.want {
		close(t.done)
	}
	return nil
}

func (t *total) wait(ctx context.Context) error {
	select {
	case <-t.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("messages are missing: got %d cents of %d: %w", t.cents.Load(), t.want, ctx.Err())
	}
}

// inMemory publishes one event a call as JSON, and waits until all were handled.
func inMemory(with func() (around, error)) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		t := memory.New(memory.Config{})
		defer func() { err = errors.Join(err, t.Close()) }()
		b, sum, end, err := start(ctx, t, with, r.N)
		if err != nil {
			return err
		}
		r.Start()
		for i := range r.N {
			if err := b.Publish(ctx, event(i)); err != nil {
				return err
			}
		}
		err = sum.wait(ctx)
		r.Stop(r.N)
		return errors.Join(err, end(ctx))
	}
}

// onPostgresLog handles a backlog.
func onPostgresLog(with func() (around, error)) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		t, err := transport.Open(ctx, small)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, t.Close()) }()
		topic := fmt.Sprintf("orders%d", time.Now().UnixNano())
		events := make([]bus.Event, r.N)
		for i := range events {
			events[i] = event(i)
		}
		filler, err := bus.NewPublisher(bus.PublisherConfig{
			Publish: t.Publish, Capabilities: t.Capabilities(), Topic: func(string) string { return topic },
		})
		if err != nil {
			return err
		}
		for len(events) > 0 {
			n := min(1000, len(events))
			if err := filler.Publish(ctx, events[:n]...); err != nil {
				return err
			}
			events = events[n:]
		}
		r.Start()
		_, sum, end, err := start(ctx, onTopic{t, topic}, with, r.N)
		if err != nil {
			return err
		}
		err = sum.wait(ctx)
		r.Stop(r.N)
		return errors.Join(err, end(ctx))
	}
}

// onTopic is a transport on which everything is on one topic.
type onTopic struct {
	transport.Transport
	topic string
}

func (o onTopic) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	cfg.Topic = o.topic
	return o.Transport.Subscribe(ctx, cfg)
}

// start starts a bus with a handler that adds up n events.
func start(ctx context.Context, t transport.Transport, with func() (around, error), n int) (*bus.Bus, *total, func(context.Context) error, error) {
	a, err := with()
	if err != nil {
		return nil, nil, nil, err
	}
	b, err := bus.New(bus.Config{Transport: t, Middleware: a.middleware, Publishing: a.publishing})
	if err != nil {
		return nil, nil, nil, err
	}
	sum := newTotal(n)
	bus.Handle(b, "billing", sum.handle)
	end := func(ctx context.Context) error {
		err := errors.Join(b.Stop(ctx), a.end(ctx))
		if got := sum.cents.Load(); got != sum.want {
			err = errors.Join(err, fmt.Errorf("got %d cents, want %d", got, sum.want))
		}
		return err
	}
	return b, sum, end, b.Start(ctx)
}
