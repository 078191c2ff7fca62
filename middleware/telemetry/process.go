package telemetry

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/bus"
)

// errAbandoned stands for the outcome of a handler that panicked through the middleware or ended its goroutine.
var errAbandoned = errors.New("telemetry: the handler did not return")

// Middleware makes a consumer span "process <topic>" of each delivery, and measures it; it is to be the outermost. The
// span is a child of the span that published the message. If the message was delayed, or comes from a delayed retry, it
// begins a trace of its own, with a link to that span, so that no trace lasts as long as a delay.
func (t *Telemetry) Middleware() bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			return t.process(ctx, d, next)
		}
	}
}

func (t *Telemetry) process(ctx context.Context, d *bus.Delivery, next bus.Handler) (err error) {
	begin, m := time.Now(), d.Message()
	attrs := []attribute.KeyValue{
		t.system, destination(d.Topic), group(d.Group),
		attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"),
	}
	options := []trace.SpanStartOption{
		trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(attrs...), trace.WithAttributes(
			attribute.String("messaging.message.id", m.ID), attribute.String("messaging.message.conversation_id", m.CorrelationID)),
	}
	parent := ctx
	if m.Metadata["traceparent"] != "" {
		from := t.context.Extract(ctx, propagation.MapCarrier(m.Metadata))
		if m.NotBefore.IsZero() {
			parent = from
		} else {
			options = append(options, trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(from)))
		}
	}
	inner, span := t.tracer.Start(parent, "process "+d.Topic, options...)
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	t.inFlight.Add(ctx, 1, set)
	t.consumed.Add(ctx, 1, set)
	due := m.Time
	if m.NotBefore.After(due) {
		due = m.NotBefore
	}
	if !due.IsZero() {
		t.age.Record(ctx, max(0, begin.Sub(due).Seconds()), set)
	}
	err = errAbandoned
	defer func() {
		t.inFlight.Add(ctx, -1, set)
		t.processed(inner, d, span, attrs, err, time.Since(begin))
	}()
	return next(inner, d)
}

// processed ends the span of a delivery and counts its outcome.
func (t *Telemetry) processed(ctx context.Context, d *bus.Delivery, span trace.Span, attrs []attribute.KeyValue, err error, took time.Duration) {
	defer span.End()
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	retries := max(0, d.Tries-1)
	if d.Attempt > 1 {
		retries++
	}
	if retries > 0 {
		t.retried.Add(ctx, int64(retries), set)
	}
	switch {
	case err == nil:
		t.handled.Add(ctx, 1, set)
	case ctx.Err() != nil && errors.Is(err, ctx.Err()): // the bus is stopping: not an attempt
		span.SetAttributes(attribute.String("error.type", "interrupted"))
	default:
		kind := failed(span, err)
		set = metric.WithAttributeSet(attribute.NewSet(append(attrs, kind)...))
		t.failed.Add(ctx, 1, set)
		if bus.IsSetAside(err) {
			t.quarantined.Add(ctx, 1, set)
		}
	}
	t.duration.Record(ctx, took.Seconds(), set)
}

// failed marks the span, and returns the attribute error.type, which has few values.
func failed(span trace.Span, err error) attribute.KeyValue {
	kind := "_OTHER"
	switch {
	case errors.Is(err, errAbandoned):
		kind = "panic"
	case bus.IsSetAside(err):
		kind = "quarantined"
	case bus.IsPermanent(err):
		kind = "permanent"
	case errors.Is(err, context.DeadlineExceeded):
		kind = "timeout"
	}
	at := attribute.String("error.type", kind)
	span.SetAttributes(at)
	span.SetStatus(codes.Error, err.Error())
	return at
}
