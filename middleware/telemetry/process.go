package telemetry

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// errAbandoned stands for the outcome of a handler that panicked through the middleware or ended its goroutine.
var errAbandoned = errors.New("telemetry: the handler did not return")

// Middleware makes a consumer span "process <topic>" of each delivery, and measures it; it is to be the outermost. The
// span is a child of the span that published the message. If the message was delayed, or comes from a delayed retry, it
// begins a trace of its own, with a link to that span, so that no trace lasts as long as a delay.
func (t *Telemetry) Middleware() bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		var last atomic.Pointer[series] // a handler has one topic and group, in a bus
		return func(ctx context.Context, d *bus.Delivery) error {
			s := last.Load()
			if s == nil || s.topic != d.Topic || s.group != d.Group {
				s = newSeries(d.Topic, d.Group, "process", trace.SpanKindConsumer, t.system, destination(d.Topic), group(d.Group),
					attribute.String("messaging.operation.name", "process"), attribute.String("messaging.operation.type", "process"))
				last.Store(s)
			}
			return t.process(ctx, d, s, next)
		}
	}
}

func (t *Telemetry) process(ctx context.Context, d *bus.Delivery, s *series, next bus.Handler) (err error) {
	begin := time.Now()
	inner, span := t.begin(ctx, d, s)
	measured := t.duration.Enabled(ctx) // all instruments are of one meter
	if measured {
		t.inFlight.Add(ctx, 1, s.add...)
		t.consumed.Add(ctx, 1, s.add...)
		t.recordAge(ctx, d, s, begin)
	}
	err = errAbandoned
	defer func() {
		kind, failure := outcome(ctx, err)
		if span.IsRecording() && err != nil {
			span.SetAttributes(kind)
			if failure {
				span.SetStatus(codes.Error, err.Error())
			}
		}
		span.End()
		if measured {
			t.inFlight.Add(ctx, -1, s.add...)
			t.processed(ctx, d, s, err, kind, failure, time.Since(begin))
		}
	}()
	return next(inner, d)
}

// begin starts the span of a delivery.
func (t *Telemetry) begin(ctx context.Context, d *bus.Delivery, s *series) (context.Context, trace.Span) {
	parent, options := ctx, s.start
	if d.HasEnvelope() {
		if m := d.Message(); m.Metadata["traceparent"] != "" {
			from := t.context.Extract(ctx, propagation.MapCarrier(m.Metadata))
			if m.NotBefore.IsZero() {
				parent = from
			} else {
				options = append(options[:len(options):len(options)], trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(from)))
			}
		}
	}
	inner, span := t.tracer.Start(parent, s.span, options...)
	if span.IsRecording() {
		m := d.Message()
		span.SetAttributes(attribute.String("messaging.message.id", m.ID), attribute.String("messaging.message.conversation_id", m.CorrelationID))
	}
	return inner, span
}

// recordAge measures how long after it was due a message is handled.
func (t *Telemetry) recordAge(ctx context.Context, d *bus.Delivery, s *series, now time.Time) {
	m := d.Message()
	due := m.Time
	if m.NotBefore.After(due) {
		due = m.NotBefore
	}
	if !due.IsZero() {
		t.age.Record(ctx, max(0, now.Sub(due).Seconds()), s.record...)
	}
}

// processed counts the outcome of a delivery.
func (t *Telemetry) processed(ctx context.Context, d *bus.Delivery, s *series, err error, kind attribute.KeyValue, failure bool, took time.Duration) {
	retries := max(0, d.Tries-1)
	if d.Attempt > 1 {
		retries++
	}
	if retries > 0 {
		t.retried.Add(ctx, int64(retries), s.add...)
	}
	switch {
	case err == nil:
		t.handled.Add(ctx, 1, s.add...)
		t.duration.Record(ctx, took.Seconds(), s.record...)
		return
	case failure:
		set := s.with(kind)
		t.failed.Add(ctx, 1, set)
		if bus.IsSetAside(err) {
			t.quarantined.Add(ctx, 1, set)
		}
		t.duration.Record(ctx, took.Seconds(), set)
	default: // the bus is stopping: not an attempt
		t.duration.Record(ctx, took.Seconds(), s.with(kind))
	}
}

// outcome returns the attribute error.type of an error, which has few values, and whether it is a failure: an error because
// the bus is stopping is none.
func outcome(ctx context.Context, err error) (kind attribute.KeyValue, failure bool) {
	switch {
	case err == nil:
		return attribute.KeyValue{}, false
	case err == errAbandoned:
		return errorType("panic"), true
	case bus.IsSetAside(err):
		return errorType("quarantined"), true
	case halt.Interrupted(ctx, err):
		return errorType("interrupted"), false
	case bus.IsPermanent(err):
		return errorType("permanent"), true
	case errors.Is(err, context.DeadlineExceeded):
		return errorType("timeout"), true
	}
	return errorType("_OTHER"), true
}

func errorType(kind string) attribute.KeyValue { return attribute.String("error.type", kind) }
