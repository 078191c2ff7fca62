package rabbitmq

import (
	"bytes"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

// FuzzDecode: whatever a foreign publisher sends can be handled, and published again as it is.
func FuzzDecode(f *testing.F) {
	f.Add("key", "value", []byte("body"), "id", "type", int64(3))
	f.Add("\xff", "\x00", []byte(nil), "", "", int64(-1))
	f.Add("postbus_version", "two", []byte("{}"), "x", "name", int64(1)<<62)
	f.Add("x-death", "text", []byte("{}"), "x", "name", int64(0))
	f.Fuzz(func(t *testing.T, key, value string, body []byte, id, kind string, n int64) {
		d := amqp.Delivery{
			Headers: amqp.Table{key: value, "n": n, "raw": []byte(value), "t": amqp.Table{key: []any{n, value, nil}}, "x-delivery-count": n},
			Body:    body, MessageId: id, Type: kind, ContentType: value, CorrelationId: key,
		}
		m, before := decode(&d)
		if err := m.Check(); err != nil {
			t.Fatalf("it cannot be published again: %v", err)
		}
		if !bytes.Equal(m.Payload, body) || before < 0 {
			t.Fatalf("payload %q, %d deliveries before", m.Payload, before)
		}
		p, err := encode(&m, 0)
		if err != nil {
			return // a key that AMQP cannot carry
		}
		again, _ := decode(&amqp.Delivery{Headers: p.Headers, Body: p.Body, MessageId: p.MessageId, ContentType: p.ContentType, Timestamp: p.Timestamp})
		if !same(&m, &again) {
			t.Fatalf("published again it is another:\n%+v\n%+v", m, again)
		}
	})
}

func same(a, b *transport.Message) bool {
	if len(a.Metadata) != len(b.Metadata) {
		return false
	}
	for k, v := range a.Metadata {
		if b.Metadata[k] != v {
			return false
		}
	}
	return a.ID == b.ID && a.Name == b.Name && a.Version == b.Version && a.Key == b.Key && a.Time.Equal(b.Time) &&
		a.CorrelationID == b.CorrelationID && a.CausationID == b.CausationID && a.ContentType == b.ContentType &&
		a.TargetGroup == b.TargetGroup && a.NotBefore.Equal(b.NotBefore) && a.Attempts == b.Attempts
}
