package bus

import (
	"context"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// outgoing is what a call of Publish works with; calls reuse it.
type outgoing struct {
	ids     idSource
	route   *route              // of the last event: the next is often of the same name
	slab    []transport.Message // not used yet
	letters []letter            // likewise
}

var outgoings = sync.Pool{New: func() any { return new(outgoing) }}

// slabSize is how many messages share one allocation: few enough that one which is kept does not keep much.
const slabSize = 32

// largePayload is the size from which on a payload does not stay in a slab, where it would live as long as the others.
const largePayload = 8 << 10

// take returns n zero messages. The transport gets them for good.
func (o *outgoing) take(n int) []transport.Message {
	if len(o.slab) < n {
		if n >= slabSize {
			return make([]transport.Message, n)
		}
		o.slab = make([]transport.Message, slabSize)
	}
	msgs := o.slab[:n:n]
	o.slab = o.slab[n:]
	return msgs
}

// Publish implements Publisher. It returns once the transport has the messages safe, and waits for back-pressure until
// ctx ends. Nothing is published if one of the events is invalid or cannot be encoded. Events of one topic go to the
// transport in one batch; if events of several topics are published and one batch fails, the others are published all
// the same, and the error says which failed.
//
// The messages get the correlation and causation ids, and the W3C trace context, of the delivery that ctx belongs to.
//
// An error that publishing again cannot mend is Permanent, so that a handler which returns it is not repeated: the event
// is invalid, too large, or asks for what the transport cannot do.
func (b *Bus) Publish(ctx context.Context, events ...Event) error {
	if err := b.publishable(); err != nil {
		return err
	}
	return b.publisher.Publish(ctx, events...)
}

// prepare turns events into messages. The topic is empty if they are of several. Methods of events are the caller's
// code: a panic of one is an error here.
func (p *publisher) prepare(ctx context.Context, events []Event) (msgs []transport.Message, topic string, err error) {
	i := 0
	o := outgoings.Get().(*outgoing)
	defer func() {
		outgoings.Put(o)
		if r := recover(); r != nil {
			err = panicked(events[i], r)
		}
	}()
	now := p.clock.read()
	cause, correlation := originOf(ctx)
	msgs, large := o.take(len(events)), false
	for ; i < len(events); i++ {
		m, e := &msgs[i], events[i]
		if w, ok := e.(*wrapped); ok {
			if e, err = w.apply(m); err != nil {
				return nil, "", err
			}
		}
		var r *route
		if r, m.Key, m.Version, err = p.describe(o, i, e); err != nil {
			return nil, "", err
		}
		if i == 0 {
			topic = r.topic
		} else if r.topic != topic {
			topic = ""
		}
		m.Name, m.CorrelationID = r.name, correlation
		if m.Time.IsZero() {
			m.Time = now
		}
		if m.ID == "" {
			m.ID = o.ids.next(now)
		}
		if m.CorrelationID == "" {
			m.CorrelationID = m.ID
		}
		if cause != nil {
			m.CausationID = cause.Message().ID
			m.Metadata = traced(m.Metadata, cause.Message().Metadata)
		}
		if p.caps.Values {
			m.Value = e
		} else if m.Payload, m.ContentType, err = p.encode(e); err != nil {
			return nil, "", fmt.Errorf("bus: publish %q: %w", m.Name, err)
		}
		large = large || len(m.Payload) >= largePayload
		if p.checks || len(events) > 1 { // else the transport refuses it, and with it all
			if err = transport.CheckBatch(p.caps, r.topic, msgs[i:i+1]); err != nil {
				return nil, "", fmt.Errorf("bus: publish %q: %w", m.Name, asInvalid(err))
			}
		}
	}
	if large {
		slab := msgs
		msgs = slices.Clone(slab)
		clear(slab)
	}
	return msgs, topic, nil
}

// describe asks event i for what its envelope says.
func (p *publisher) describe(o *outgoing, i int, e Event) (r *route, key string, version int, err error) {
	if v := reflect.ValueOf(e); !v.IsValid() || v.Kind() == reflect.Pointer && v.IsNil() {
		return nil, "", 0, fmt.Errorf("bus: publish: %w: event %d is nil (%T)", ErrInvalid, i, e)
	}
	name := e.EventName()
	if r = o.route; r == nil || r.by != p || r.name != name {
		if r, err = p.route(name); err != nil {
			return nil, "", 0, fmt.Errorf("bus: publish %T: %w", e, err)
		}
		o.route = r
	}
	if k, ok := e.(Keyed); ok {
		key = k.EventKey()
	}
	if version = versionOf(e); version < 1 {
		return nil, "", 0, fmt.Errorf("bus: publish %q: %w: version %d must be at least 1", name, ErrInvalid, version)
	}
	return r, key, version, nil
}

// panicked is the error of an event whose methods panic: they are the caller's code.
func panicked(e Event, p any) error {
	return fmt.Errorf("bus: publish: %w event: %T panicked: %v", ErrInvalid, e, p)
}

// apply carries the instructions of w out and returns the event inside. An outer instruction wins over an inner one.
func (w *wrapped) apply(m *transport.Message) (Event, error) {
	for {
		switch {
		case w.hasID:
			if m.ID == "" {
				m.ID = w.id
			}
			if w.id == "" {
				return nil, fmt.Errorf("bus: publish: %w: WithID of an empty id", ErrInvalid)
			}
		case len(w.metadata) > 0:
			merged := maps.Clone(w.metadata)
			maps.Copy(merged, m.Metadata)
			m.Metadata = merged
		case m.NotBefore.IsZero() && !w.at.IsZero():
			m.NotBefore = w.at
		case m.NotBefore.IsZero() && w.after != 0:
			m.Time = time.Now() // not the clock, which may be late; and so that the two differ by the delay
			m.NotBefore = m.Time.Add(w.after)
		}
		inner, ok := w.Event.(*wrapped)
		if !ok {
			return w.Event, nil
		}
		w = inner
	}
}

// traced adds the W3C trace context and baggage of the cause, unless the publisher has set its own.
func traced(metadata, cause map[string]string) map[string]string {
	if cause == nil || metadata["traceparent"] != "" {
		return metadata
	}
	added := false
	for _, key := range [...]string{"traceparent", "tracestate", "baggage"} {
		value, ok := cause[key]
		if _, own := metadata[key]; !ok || own {
			continue
		}
		if !added { // what we were given is the caller's
			added = true
			if metadata = maps.Clone(metadata); metadata == nil {
				metadata = map[string]string{}
			}
		}
		metadata[key] = value
	}
	return metadata
}
