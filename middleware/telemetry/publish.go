package telemetry

import (
	"context"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// Publishing makes a producer span "send <topic>" of each batch, and measures it. The messages get its W3C trace context,
// in copies, in place of what they had. Its parent is the span of the context; if that has none, and the batch is one
// message, the trace context that the message had.
func (t *Telemetry) Publishing() bus.PublishMiddleware {
	return func(next bus.PublishHandler) bus.PublishHandler {
		topics := recent{of: t, kind: trace.SpanKindProducer}
		return func(ctx context.Context, topic string, msgs []transport.Message) error {
			return t.send(ctx, topics.series("send", topic, ""), msgs, next)
		}
	}
}

func (t *Telemetry) send(ctx context.Context, s *series, msgs []transport.Message, next bus.PublishHandler) (err error) {
	var begin time.Time
	timed := t.operation.Enabled(ctx)
	if timed {
		begin = time.Now()
	}
	parent := ctx
	if len(msgs) == 1 && msgs[0].Metadata["traceparent"] != "" && !trace.SpanContextFromContext(ctx).IsValid() {
		parent = t.context.Extract(ctx, propagation.MapCarrier(msgs[0].Metadata))
	}
	inner, span := t.tracer.Start(parent, s.span, s.start...)
	if span.IsRecording() {
		if len(msgs) == 1 {
			span.SetAttributes(attribute.String("messaging.message.id", msgs[0].ID),
				attribute.String("messaging.message.conversation_id", msgs[0].CorrelationID))
		} else {
			span.SetAttributes(attribute.Int("messaging.batch.message_count", len(msgs)))
		}
	}
	err = errAbandoned
	defer func() {
		kind, _ := outcome(ctx, err)
		if err != nil && span.IsRecording() {
			span.SetAttributes(kind)
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
		c := &s.counted
		if err != nil {
			c = s.with(kind)
		}
		c.sent.Add(int64(len(msgs)))
		if timed {
			t.operation.Record(inner, time.Since(begin).Seconds(), c.record...)
		}
	}()
	if span.SpanContext().IsValid() {
		msgs = t.inject(inner, msgs)
	}
	return next(inner, s.topic, msgs)
}

// inject returns copies of the messages with the trace context of ctx.
func (t *Telemetry) inject(ctx context.Context, msgs []transport.Message) []transport.Message {
	copies := make([]transport.Message, len(msgs))
	copy(copies, msgs)
	for i := range copies {
		metadata := make(map[string]string, len(copies[i].Metadata)+2)
		maps.Copy(metadata, copies[i].Metadata)
		delete(metadata, "tracestate")
		t.context.Inject(ctx, propagation.MapCarrier(metadata))
		copies[i].Metadata = metadata
	}
	return copies
}
