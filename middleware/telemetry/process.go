package telemetry

import (
	"context"
	"errors"
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
// span is a child of the span that published the message, or is linked to it, as the package comment says.
func (t *Telemetry) Middleware() bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		groups := recent{of: t, kind: trace.SpanKindConsumer}
		return func(ctx context.Context, d *bus.Delivery) error {
			return t.process(ctx, d, groups.series("process", d.Topic, d.Group), next)
		}
	}
}

func (t *Telemetry) process(ctx context.Context, d *bus.Delivery, s *series, next bus.Handler) (err error) {
	var begin time.Time
	aged, timed := t.age.Enabled(ctx), t.duration.Enabled(ctx)
	if aged || timed { // the clock costs most where there is no SDK
		begin = time.Now()
	}
	inner, span := t.begin(ctx, d, s)
	s.consumed.Add(1)
	if aged {
		t.recordAge(inner, d, s, begin)
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
		c := s.count(d, err, kind, failure)
		if timed {
			t.duration.Record(inner, time.Since(begin).Seconds(), c.record...)
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
			if m.NotBefore.IsZero() && m.TargetGroup == "" { // a replay has a TargetGroup
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

// count counts the outcome of a delivery, and returns what it was counted with.
func (s *series) count(d *bus.Delivery, err error, kind attribute.KeyValue, failure bool) *counted {
	defer s.ended.Add(1)
	retries := max(0, d.Tries-1)
	if d.Attempt > 1 {
		retries++
	}
	if retries > 0 {
		s.retried.Add(int64(retries))
	}
	if err == nil {
		s.handled.Add(1)
		return &s.counted
	}
	c := s.with(kind)
	if failure { // else the bus is stopping: not an attempt
		c.failed.Add(1)
		if bus.IsSetAside(err) {
			c.quarantined.Add(1)
		}
	}
	return c
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
