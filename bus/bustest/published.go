package bustest

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
)

// Message is a published event in its envelope. Wrappers show in it: WithID in ID, WithMetadata in Metadata, After and
// At in NotBefore.
type Message struct {
	transport.Message
	// Topic is where the message was published.
	Topic string

	codecs []codec.Codec
}

// Delay returns for how long the message was put off when it was published: the d of bus.After; 0 if it was not.
func (m Message) Delay() time.Duration {
	if m.NotBefore.IsZero() {
		return 0
	}
	return m.NotBefore.Sub(m.Time)
}

// Source has recorded messages: a *Recorder or a *Probe.
type Source interface {
	// Messages returns what was published, in order. The slice is the caller's; what the messages point to is not.
	Messages() []Message

	fail(error)
}

// Published returns the events of type E that were published, in order; what was wrapped by After, At, WithMetadata or
// WithID is unwrapped. Events are matched by the name and version of E, which may be a pointer or not whatever was
// published. The test fails if such an event cannot be decoded into E; with a Recorder, Published panics then.
func Published[E bus.Event](from Source) []E {
	typ := reflect.TypeFor[E]()
	var zero E
	if typ.Kind() == reflect.Pointer {
		zero = reflect.New(typ.Elem()).Interface().(E)
	}
	version := 1
	if v, ok := any(zero).(bus.Versioned); ok {
		version = v.EventVersion()
	}
	var events []E
	for _, m := range from.Messages() {
		if m.Name != zero.EventName() || max(m.Version, 1) != version {
			continue
		}
		v, err := m.as(typ)
		if err != nil {
			from.fail(fmt.Errorf("bustest: published %q version %d, id %s, as %v: %w", m.Name, version, m.ID, typ, err))
			return events
		}
		events = append(events, v.Interface().(E))
	}
	return events
}

// as returns the event as a value of typ.
func (m *Message) as(typ reflect.Type) (reflect.Value, error) {
	payload, contentType := m.Payload, m.ContentType
	if m.Value != nil {
		v := reflect.ValueOf(m.Value)
		switch {
		case v.Type() == typ:
			return v, nil
		case v.Kind() == reflect.Pointer && v.Type().Elem() == typ:
			return v.Elem(), nil
		case typ.Kind() == reflect.Pointer && typ.Elem() == v.Type():
			p := reflect.New(v.Type())
			p.Elem().Set(v)
			return p, nil
		}
		if payload == nil { // another type of the same event: as it would arrive from a broker
			var err error
			if payload, contentType, err = m.encode(); err != nil {
				return v, err
			}
		}
	}
	c, err := m.codec(contentType)
	if err != nil {
		return reflect.Value{}, err
	}
	if typ.Kind() == reflect.Pointer {
		p := reflect.New(typ.Elem())
		return p, c.Unmarshal(payload, p.Interface())
	}
	p := reflect.New(typ)
	return p.Elem(), c.Unmarshal(payload, p.Interface())
}

func (m *Message) encode() ([]byte, string, error) {
	for _, c := range m.codecs {
		if c.Encodes(m.Value) {
			payload, err := c.Marshal(m.Value)
			return payload, c.ContentType(), err
		}
	}
	return nil, "", fmt.Errorf("no codec can encode %T", m.Value)
}

func (m *Message) codec(contentType string) (codec.Codec, error) {
	for _, c := range m.codecs {
		if contentType == "" || strings.EqualFold(c.ContentType(), contentType) {
			return c, nil
		}
	}
	return nil, fmt.Errorf("no codec for content type %q", contentType)
}
