package failures

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// byHand calls the SDK as the middleware does, for the one topic, event and outcome that there is here, with everything
// prepared: what the SDK takes by itself.
func byHand(sampler sdktrace.Sampler) func() (around, error) {
	return func() (around, error) {
		traces, meters, end := providers(sampler)
		meter, tracer, w3c := meters.Meter("by-hand"), traces.Tracer("by-hand"), propagation.TraceContext{}
		seconds := metric.WithExplicitBucketBoundaries(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
		operation, err1 := meter.Float64Histogram("operation", seconds)
		duration, err2 := meter.Float64Histogram("duration", seconds)
		age, err3 := meter.Float64Histogram("age", metric.WithExplicitBucketBoundaries(0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400))
		count, err4 := meter.Int64ObservableCounter("messages")
		var sent, consumed, ended, handled atomic.Int64
		_, err5 := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
			o.ObserveInt64(count, sent.Load()+consumed.Load()+ended.Load()+handled.Load())
			return nil
		}, count)
		send := []attribute.KeyValue{
			attribute.String("messaging.system", "postbus"), attribute.String("messaging.destination.name", "orders"),
			attribute.String("messaging.operation.name", "send"), attribute.String("messaging.operation.type", "send"),
		}
		process := append([]attribute.KeyValue{attribute.String("messaging.consumer.group.name", "billing")}, send...)
		sending := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(send...))}
		processing := []metric.RecordOption{metric.WithAttributeSet(attribute.NewSet(process...))}
		startSend := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindProducer), trace.WithAttributes(send...)}
		startProcess := []trace.SpanStartOption{trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(process...)}
		identify := func(span trace.Span, id, correlation string) {
			if span.IsRecording() {
				span.SetAttributes(attribute.String("messaging.message.id", id), attribute.String("messaging.message.conversation_id", correlation))
			}
		}
		handling := func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				begin, m := time.Now(), d.Message()
				inner, span := tracer.Start(w3c.Extract(ctx, propagation.MapCarrier(m.Metadata)), "process orders", startProcess...)
				identify(span, m.ID, m.CorrelationID)
				consumed.Add(1)
				age.Record(inner, begin.Sub(m.Time).Seconds(), processing...)
				err := next(inner, d)
				span.End()
				handled.Add(1)
				ended.Add(1)
				duration.Record(inner, time.Since(begin).Seconds(), processing...)
				return err
			}
		}
		publishing := func(next bus.PublishHandler) bus.PublishHandler {
			return func(ctx context.Context, topic string, msgs []transport.Message) error {
				begin, copied := time.Now(), []transport.Message{msgs[0]}
				m := &copied[0]
				inner, span := tracer.Start(ctx, "send orders", startSend...)
				identify(span, m.ID, m.CorrelationID)
				m.Metadata = map[string]string{}
				w3c.Inject(inner, propagation.MapCarrier(m.Metadata))
				err := next(inner, topic, copied)
				span.End()
				sent.Add(1)
				operation.Record(inner, time.Since(begin).Seconds(), sending...)
				return err
			}
		}
		return around{[]bus.Middleware{handling}, []bus.PublishMiddleware{publishing}, end}, errors.Join(err1, err2, err3, err4, err5)
	}
}
