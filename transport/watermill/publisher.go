package watermill

import (
	"maps"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// Publisher is a Watermill Publisher on a transport. Make it with [NewPublisher].
type Publisher struct {
	t      transport.Transport
	closed atomic.Bool
}

var _ message.Publisher = (*Publisher)(nil)

// NewPublisher makes a Watermill Publisher of a transport, which stays the caller's: closing one does not close the other.
func NewPublisher(t transport.Transport) *Publisher { return &Publisher{t: t} }

// Publish implements message.Publisher. All messages are one batch, under the context of the first one; an error that is
// a *transport.PublishError says which of them failed. A message without UUID gets one.
//
// Metadata under the keys of the envelope's fields are those fields: what is set as "name" is the name of the event,
// what is set as "postbus_key" is its key, and "postbus_target_group" and "postbus_not_before" (RFC 3339) do what
// TargetGroup and NotBefore do.
//
// It waits for room if the transport has bounded queues, unless the context of the first message belongs to the handling
// of one, as that of a received message does. A Watermill router publishes what handlers return without it: handlers
// that consume what they themselves, or one another, return can wait for one another.
func (p *Publisher) Publish(topic string, msgs ...*message.Message) error {
	if p.closed.Load() {
		return transport.ErrClosed
	}
	if len(msgs) == 0 {
		return nil
	}
	out := make([]transport.Message, len(msgs))
	for i, msg := range msgs {
		out[i] = wire.Decode(msg.UUID, maps.Clone(msg.Metadata), msg.Payload)
		if out[i].ID == "" {
			out[i].ID = watermill.NewUUID()
		}
	}
	return p.t.Publish(msgs[0].Context(), topic, out)
}

// Close implements message.Publisher. It is idempotent.
func (p *Publisher) Close() error {
	p.closed.Store(true)
	return nil
}
