package telemetry

import (
	"context"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
)

// series is what all spans and measurements of one topic have in common, and of one group if it consumes. It is made once,
// and not for each message.
type series struct {
	seriesKey
	counted
	span   string // the name of the spans
	start  []trace.SpanStartOption
	attrs  []attribute.KeyValue
	errors sync.Map // of *counted, by the value of error.type, of which there are few
}

type seriesKey struct{ operation, topic, group string }

// counted is an attribute set, and what was counted with it. To count is an atomic addition here; the meter asks for the
// sums when it collects.
type counted struct {
	record  []metric.RecordOption
	observe []metric.ObserveOption

	sent, consumed, ended, handled, failed, retried, quarantined atomic.Int64
}

func (c *counted) init(attrs ...attribute.KeyValue) {
	set := metric.WithAttributeSet(attribute.NewSet(attrs...))
	c.record, c.observe = []metric.RecordOption{set}, []metric.ObserveOption{set}
}

// with returns the series with one more attribute error.type.
func (s *series) with(kind attribute.KeyValue) *counted {
	name := kind.Value.AsString()
	if c, ok := s.errors.Load(name); ok {
		return c.(*counted)
	}
	c := &counted{}
	c.init(append(s.attrs[:len(s.attrs):len(s.attrs)], kind)...)
	first, _ := s.errors.LoadOrStore(name, c)
	return first.(*counted)
}

// recent finds series. The next is often the last: a handler has one topic and group in a bus, and a publisher has few topics.
type recent struct {
	of   *Telemetry
	kind trace.SpanKind
	last atomic.Pointer[series]
}

func (r *recent) series(operation, topic, groupName string) *series {
	key := seriesKey{operation, topic, groupName}
	if s := r.last.Load(); s != nil && s.seriesKey == key {
		return s
	}
	found, ok := r.of.series.Load(key)
	if !ok {
		s := &series{seriesKey: key, span: operation + " " + topic, attrs: []attribute.KeyValue{
			r.of.system, destination(topic),
			attribute.String("messaging.operation.name", operation), attribute.String("messaging.operation.type", operation),
		}}
		if groupName != "" {
			s.attrs = append(s.attrs, group(groupName))
		}
		s.init(s.attrs...)
		s.start = []trace.SpanStartOption{trace.WithSpanKind(r.kind), trace.WithAttributes(s.attrs...)}
		found, _ = r.of.series.LoadOrStore(key, s)
	}
	r.last.Store(found.(*series))
	return found.(*series)
}

// counters are the instruments that are asked for what was counted.
type counters struct {
	sent, consumed, handled, failed, retried, quarantined metric.Int64ObservableCounter
	inFlight                                              metric.Int64ObservableUpDownCounter
}

// observe is the callback of the counters.
func (t *Telemetry) observe(_ context.Context, o metric.Observer) error {
	t.series.Range(func(_, v any) bool {
		s := v.(*series)
		t.counters.observe(o, &s.counted)
		ended := s.ended.Load() // before consumed, so that their difference is not negative
		if consumed := s.consumed.Load(); consumed > 0 {
			o.ObserveInt64(t.inFlight, consumed-ended, s.counted.observe...)
		}
		s.errors.Range(func(_, v any) bool {
			t.counters.observe(o, v.(*counted))
			return true
		})
		return true
	})
	return nil
}

func (i *counters) observe(o metric.Observer, c *counted) {
	for _, x := range [...]struct {
		metric.Int64Observable
		sum *atomic.Int64
	}{
		{i.sent, &c.sent}, {i.consumed, &c.consumed}, {i.handled, &c.handled}, {i.failed, &c.failed}, {i.retried, &c.retried}, {i.quarantined, &c.quarantined},
	} {
		if n := x.sum.Load(); n > 0 {
			o.ObserveInt64(x.Int64Observable, n, c.observe...)
		}
	}
}
