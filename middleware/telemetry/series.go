package telemetry

import (
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// series is what all spans and measurements of one topic have in common, and of one group if it consumes. It is made once,
// and not for each message.
type series struct {
	topic, group string
	span         string // the name of the spans
	start        []trace.SpanStartOption
	add          []metric.AddOption
	record       []metric.RecordOption
	attrs        []attribute.KeyValue
}

func newSeries(topic, group, operation string, kind trace.SpanKind, attrs ...attribute.KeyValue) *series {
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	return &series{
		topic: topic, group: group, span: operation + " " + topic, attrs: attrs,
		start: []trace.SpanStartOption{trace.WithSpanKind(kind), trace.WithAttributes(attrs...)},
		add:   []metric.AddOption{set}, record: []metric.RecordOption{set},
	}
}

// with returns the series with one more attribute, which has few values.
func (s *series) with(attr attribute.KeyValue) metric.MeasurementOption {
	return metric.WithAttributeSet(attribute.NewSet(append(s.attrs[:len(s.attrs):len(s.attrs)], attr)...))
}
