// Package telemetry makes OpenTelemetry traces and metrics of what a bus publishes and handles, by the semantic
// conventions for messaging. It uses the API only; the program brings the SDK and its exporters.
//
// There are two spans: "send" of each batch that is published, and "process" of each delivery. There is none of the type
// "receive", for the conventions have that where a program itself asks for messages, and "process" where messages are pushed
// to its handlers, as a bus does; what was fetched ahead must have no span until a handler gets it. How long a message
// was on its way, waiting in the transport or in the process, is the metric postbus.age. The conventions ask for "settle",
// too, and there is none: messages are settled later, in batches of many traces, and bus.Health tells what is wrong with it.
//
// The span of a delivery is a child of that of the publication where the message came by itself, on whatever transport and
// also through an outbox and its Forwarder. Where it came by a delay, a delayed retry or a replay from quarantine, it begins
// a trace of its own and has a link to that of the publication, so that no trace lasts as long as such a pause. A retry
// that the bus waits out in its place, for a second or less, stays in the trace, and a delay in an outbox is over, and
// forgotten, when the event leaves it.
package telemetry

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/postbus/postbus/transport"
)

const scope = "github.com/postbus/postbus/middleware/telemetry"

// Config configures New.
type Config struct {
	// TracerProvider makes the spans. Default: the global one.
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Default: the global one.
	MeterProvider metric.MeterProvider
	// System is the attribute messaging.system, such as rabbitmq. Default: postbus.
	System string
}

// Telemetry observes a bus. It is safe for concurrent use.
type Telemetry struct {
	tracer  trace.Tracer
	meter   metric.Meter
	context propagation.TraceContext
	system  attribute.KeyValue
	series  sync.Map // of *series, by seriesKey
	counters
	operation, duration, age metric.Float64Histogram
}

// New returns an error if the meter provider refuses an instrument.
func New(cfg Config) (*Telemetry, error) {
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.System == "" {
		cfg.System = "postbus"
	}
	t := &Telemetry{
		tracer: cfg.TracerProvider.Tracer(scope), meter: cfg.MeterProvider.Meter(scope),
		system: attribute.String("messaging.system", cfg.System),
	}
	if err := t.create(); err != nil {
		return nil, fmt.Errorf("telemetry: %w", err)
	}
	return t, nil
}

func (t *Telemetry) create() error {
	var errs []error
	counter := func(name, text string) metric.Int64ObservableCounter {
		c, err := t.meter.Int64ObservableCounter(name, metric.WithUnit("{message}"), metric.WithDescription(text))
		errs = append(errs, err)
		return c
	}
	seconds := func(name, text string, bounds ...float64) metric.Float64Histogram {
		h, err := t.meter.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(text), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	short := []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
	t.sent = counter("messaging.client.sent.messages", "messages handed to the transport")
	t.consumed = counter("messaging.client.consumed.messages", "messages delivered to a group")
	t.handled = counter("postbus.handled", "deliveries handled without an error")
	t.failed = counter("postbus.failed", "deliveries that failed, also those set aside")
	t.retried = counter("postbus.retried", "tries after the first, in process or by redelivery")
	t.quarantined = counter("postbus.quarantined", "deliveries set aside")
	t.operation = seconds("messaging.client.operation.duration", "duration of publishing a batch", short...)
	t.duration = seconds("messaging.process.duration", "duration of handling a delivery", short...)
	t.age = seconds("postbus.age", "time from when a message was due until it is handled",
		0.01, 0.1, 1, 10, 60, 600, 3600, 21600, 86400)
	var err error
	t.inFlight, err = t.meter.Int64ObservableUpDownCounter("postbus.in_flight", metric.WithUnit("{message}"), metric.WithDescription("deliveries being handled"))
	if err = errors.Join(append(errs, err)...); err != nil {
		return err
	}
	_, err = t.meter.RegisterCallback(t.observe, t.sent, t.consumed, t.handled, t.failed, t.retried, t.quarantined, t.inFlight)
	return err
}

// Lag observes how far the groups of r are behind, as the gauges postbus.lag, postbus.lag.age and postbus.retained, at each
// collection of the metrics, which costs what Status costs; what cannot be found out is told to otel.Handle. An
// outbox.Forwarder is such an r. It ends with Unregister of what it returns.
func (t *Telemetry) Lag(r transport.StatusReporter) (metric.Registration, error) {
	lag, err := t.meter.Int64ObservableGauge("postbus.lag", metric.WithUnit("{message}"), metric.WithDescription("messages published and not settled"))
	age, err2 := t.meter.Float64ObservableGauge("postbus.lag.age", metric.WithUnit("s"), metric.WithDescription("age of the oldest message not settled"))
	retained, err3 := t.meter.Int64ObservableGauge("postbus.retained", metric.WithUnit("By"), metric.WithDescription("bytes of its log that the far side keeps for the group"))
	if err = errors.Join(err, err2, err3); err != nil {
		return nil, fmt.Errorf("telemetry: lag: %w", err)
	}
	return t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		all, err := r.Status(ctx)
		if err != nil { // returned, it would keep all other metrics from being exported
			otel.Handle(fmt.Errorf("telemetry: lag: %w", err))
		}
		for _, s := range all {
			if s.Err != nil {
				otel.Handle(fmt.Errorf("telemetry: lag: %w", s.Err))
				continue
			}
			at := metric.WithAttributes(t.system, destination(s.Topic), group(s.Group),
				attribute.String("messaging.destination.partition.id", strconv.Itoa(s.Partition)))
			o.ObserveInt64(lag, int64(s.Lag), at)
			o.ObserveFloat64(age, s.LagAge.Seconds(), at)
			o.ObserveInt64(retained, s.Retained, at)
		}
		return nil
	}, lag, age, retained)
}

func destination(topic string) attribute.KeyValue {
	return attribute.String("messaging.destination.name", topic)
}

func group(name string) attribute.KeyValue {
	return attribute.String("messaging.consumer.group.name", name)
}
