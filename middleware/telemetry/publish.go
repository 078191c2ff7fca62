package telemetry

import (
	"context"
	"maps"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
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
		return func(ctx context.Context, topic string, msgs []transport.Message) error {
			return t.send(ctx, topic, msgs, next)
		}
	}
}

func (t *Telemetry) send(ctx context.Context, topic string, msgs []transport.Message, next bus.PublishHandler) (err error) {
	begin := time.Now()
	attrs := []attribute.KeyValue{
		t.system, destination(topic),
		attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
	}
	options := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(attrs...)}
	parent := ctx
	if len(msgs) == 1 {
		m := &msgs[0]
		options = append(options, trace.WithAttributes(attribute.String("messaging.message.id", m.ID),
			attribute.String("messaging.message.conversation_id", m.CorrelationID)))
		if !trace.SpanContextFromContext(ctx).IsValid() {
			parent = t.context.Extract(ctx, propagation.MapCarrier(m.Metadata))
		}
	} else {
		options = append(options, trace.WithAttributes(attribute.Int("messaging.batch.message_count", len(msgs))))
	}
	inner, span := t.tracer.Start(parent, "send "+topic, options...)
	err = errAbandoned
	defer func() {
		defer span.End()
		if err != nil {
			attrs = append(attrs, failed(span, err))
		}
		set := metric.WithAttributeSet(attribute.NewSet(attrs...))
		t.sent.Add(inner, int64(len(msgs)), set)
		t.operation.Record(inner, time.Since(begin).Seconds(), set)
	}()
	if trace.SpanContextFromContext(inner).IsValid() {
		msgs = t.inject(inner, msgs)
	}
	return next(inner, topic, msgs)
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
