// Package sagatelemetry makes OpenTelemetry traces and metrics of sagas. It uses the API only; the program brings the SDK
// and its exporters.
//
//	t, err := sagatelemetry.New(sagatelemetry.Config{})
//	o, err := saga.New(b, box, saga.Config{Sagas: sagas, Hooks: []saga.Hook{t.Hook()}})
//	reg, err := t.Instances(o)
package sagatelemetry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/saga"
)

const scope = "github.com/postbus/postbus/saga/sagatelemetry"

// Config configures New.
type Config struct {
	// TracerProvider makes the spans. Default: the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default: the global one.
	MeterProvider metric.MeterProvider
}

// Telemetry observes orchestrators. It is safe for concurrent use.
type Telemetry struct {
	tracer  trace.Tracer
	meter   metric.Meter
	context propagation.TraceContext

	started, ended, stuck, attempts metric.Int64Counter
	duration, step, attempt         metric.Float64Histogram
}

// New returns an error if the meter provider refuses an instrument.
func New(cfg Config) (*Telemetry, error) {
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	t := &Telemetry{tracer: cfg.TracerProvider.Tracer(scope), meter: cfg.MeterProvider.Meter(scope)}
	if err := t.create(); err != nil {
		return nil, fmt.Errorf("sagatelemetry: %w", err)
	}
	return t, nil
}

func (t *Telemetry) create() error {
	var errs []error
	counter := func(name, unit, text string) metric.Int64Counter {
		c, err := t.meter.Int64Counter(name, metric.WithUnit(unit), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, text string, bounds ...float64) metric.Float64Histogram {
		h, err := t.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	long := []float64{0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400, 604800}
	t.started = counter("postbus.saga.started", "{instance}", "instances started")
	t.ended = counter("postbus.saga.ended", "{instance}", "instances that have ended")
	t.stuck = counter("postbus.saga.became_stuck", "{instance}", "times that an instance has come to wait for a person")
	t.attempts = counter("postbus.saga.attempts.failed", "{attempt}", "attempts of Do and Undo that have failed")
	t.duration = seconds("postbus.saga.duration", "time from the start of an instance to its end", long...)
	t.step = seconds("postbus.saga.step.duration", "time from when a step was reached until it was done, or from when its undoing began until it was undone", long...)
	t.attempt = seconds("postbus.saga.attempt.duration", "duration of an attempt of Do or Undo that has succeeded", 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
	return errors.Join(errs...)
}

// Hook counts, measures, and makes a span of each attempt of a Do or an Undo, "do saga/step". The span is a child of that in
// the context, or of the trace that the instance was started in; in any other trace it is linked to that.
func (t *Telemetry) Hook() saga.Hook { return saga.Hook{Observe: t.observe, Around: t.around} }

func (t *Telemetry) observe(i saga.Instance, e saga.Entry) {
	ctx := context.Background()
	attrs := []attribute.KeyValue{name(i.Saga)}
	if e.Step != "" {
		attrs = append(attrs, attribute.String("postbus.saga.step", e.Step))
	}
	set := metric.WithAttributes(attrs...)
	switch e.Kind {
	case saga.Started:
		t.started.Add(ctx, 1, set)
	case saga.Failed, saga.UndoFailed:
		t.attempts.Add(ctx, 1, metric.WithAttributes(append(attrs, undo(e.Kind == saga.UndoFailed))...))
	case saga.BecameStuck:
		t.stuck.Add(ctx, 1, set)
	case saga.Ended:
		set := metric.WithAttributes(name(i.Saga), status(i.Status))
		t.ended.Add(ctx, 1, set)
		t.duration.Record(ctx, max(0, e.At.Sub(i.Started).Seconds()), set)
	}
	set = metric.WithAttributes(append(attrs, undo(e.Kind == saga.Undone))...)
	if e.Took > 0 {
		t.attempt.Record(ctx, e.Took.Seconds(), set)
	}
	if e.Finished {
		t.step.Record(ctx, e.Lasted.Seconds(), set)
	}
}

func (t *Telemetry) around(ctx context.Context, a saga.Attempt, do func(context.Context) error) error {
	verb := "do"
	if a.Undo {
		verb = "undo"
	}
	options := []trace.SpanStartOption{trace.WithAttributes(name(a.Saga), undo(a.Undo), attribute.String("postbus.saga.step", a.Step),
		attribute.String("postbus.saga.key", a.Key), attribute.Int("postbus.saga.version", a.Version), attribute.Int("postbus.saga.attempt", a.Number))}
	origin := t.context.Extract(context.Background(), propagation.MapCarrier(a.Trace))
	from, here := trace.SpanContextFromContext(origin), trace.SpanContextFromContext(ctx)
	switch {
	case !from.IsValid():
	case !here.IsValid():
		ctx = trace.ContextWithRemoteSpanContext(ctx, from)
	case here.TraceID() != from.TraceID():
		options = append(options, trace.WithLinks(trace.LinkFromContext(origin)))
	}
	ctx, span := t.tracer.Start(ctx, verb+" "+a.Saga+"/"+a.Step, options...)
	returned := false
	defer func() {
		if !returned {
			span.SetStatus(codes.Error, "it did not return")
		}
		span.End()
	}()
	err := do(ctx)
	returned = true
	if err != nil {
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

// Counter is what Instances asks; *saga.Orchestrator is one.
type Counter interface {
	Counts(ctx context.Context) ([]saga.Count, error)
}

// Instances observes the instances that have not ended, as the gauges postbus.saga.instances and postbus.saga.age, the age
// of the oldest, at each collection of the metrics, which costs what Counts costs; if that fails, otel.Handle is told. It
// ends with Unregister of what it returns.
func (t *Telemetry) Instances(c Counter) (metric.Registration, error) {
	instances, err := t.meter.Int64ObservableGauge("postbus.saga.instances", metric.WithUnit("{instance}"),
		metric.WithDescription("instances that have not ended"))
	age, err2 := t.meter.Float64ObservableGauge("postbus.saga.age", metric.WithUnit("s"), metric.WithDescription("age of the oldest of them"))
	if err = errors.Join(err, err2); err != nil {
		return nil, fmt.Errorf("sagatelemetry: instances: %w", err)
	}
	return t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		all, err := c.Counts(ctx)
		if err != nil { // returned, it would keep all other metrics from being exported
			otel.Handle(fmt.Errorf("sagatelemetry: instances: %w", err))
			return nil
		}
		for _, n := range all {
			at := metric.WithAttributes(name(n.Saga), status(n.Status), attribute.Int("postbus.saga.version", n.Version),
				attribute.Bool("postbus.saga.known", n.Known))
			o.ObserveInt64(instances, int64(n.N), at)
			o.ObserveFloat64(age, max(0, time.Since(n.Oldest).Seconds()), at)
		}
		return nil
	}, instances, age)
}

func name(saga string) attribute.KeyValue { return attribute.String("postbus.saga.name", saga) }

func status(s saga.Status) attribute.KeyValue {
	return attribute.String("postbus.saga.status", string(s))
}

func undo(is bool) attribute.KeyValue { return attribute.Bool("postbus.saga.undo", is) }
