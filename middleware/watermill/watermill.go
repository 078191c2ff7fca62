// Package watermill makes middleware that was written for a Watermill router usable around the handlers of a bus.
package watermill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/delay"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// ErrNacked is the outcome when the middleware nacked the message and returned no error.
var ErrNacked = errors.New("middleware/watermill: the middleware nacked the message")

// Adapt makes bus middleware of Watermill middleware, which is wrapped around the handler once, and called concurrently.
//
// The middleware sees a Watermill message with the ID as UUID, the payload (none where the transport shares values) and the
// envelope as metadata: the event name under "name", the correlation id under "correlation_id", the others under keys
// that begin with "postbus_". What it changes of them, and the context that it sets, hold for what is further inside, and
// are undone when it returns.
//
// Its error is the verdict, as a handler's is; bus.Permanent and bus.RetryAfter pass through middleware that wraps errors
// with Unwrap. Watermill's own Retry does not know them, and tries again what is permanent unless its ShouldRetry asks
// bus.IsPermanent. Its DelayOnError becomes bus.RetryAfter, with the initial interval each time.
//
// A message that the middleware acknowledged is acknowledged, whatever it returns, as by InstantAck; only not before it
// returns. One that it nacked comes again, with ErrNacked if there is no other error. Messages that the middleware itself
// produces cannot be published from here: they are a bus.Permanent error, so that none is dropped in silence.
//
// Adapt(nil) is nil, which bus.New refuses.
func Adapt(m message.HandlerMiddleware) bus.Middleware {
	if m == nil {
		return nil
	}
	return func(next bus.Handler) bus.Handler {
		wrapped := m(func(msg *message.Message) ([]*message.Message, error) {
			c, ok := msg.Context().Value(callKey{}).(*call)
			if !ok {
				return nil, errors.New("middleware/watermill: the middleware passed on a message without the context of the one it was given")
			}
			return nil, c.handle(next, msg)
		})
		return func(ctx context.Context, d *bus.Delivery) error {
			c := &call{delivery: d}
			msg := c.message(ctx)
			produced, err := wrapped(msg)
			return c.outcome(msg, produced, err)
		}
	}
}

type callKey struct{}

// call is one delivery on its way through an adapted middleware.
type call struct {
	delivery *bus.Delivery
	uuid     string
	metadata map[string]string
}

func (c *call) message(ctx context.Context) *message.Message {
	c.uuid, c.metadata = wire.Encode(c.delivery.Message(), 0)
	msg := message.NewMessageWithContext(context.WithValue(ctx, callKey{}, c), c.uuid, c.delivery.Message().Payload)
	if c.metadata != nil {
		msg.Metadata = maps.Clone(c.metadata)
	}
	return msg
}

// handle calls the handler with what the middleware made of the message.
func (c *call) handle(next bus.Handler, msg *message.Message) error {
	d := c.delivery
	if msg.UUID != c.uuid || !maps.Equal(msg.Metadata, c.metadata) || !bytes.Equal(msg.Payload, d.Message().Payload) {
		original := d.Message()
		defer d.SetMessage(original)
		d.SetMessage(c.changed(msg))
	}
	return next(msg.Context(), d)
}

// changed is the message of the delivery with the changes. A value in process is of the original payload only.
func (c *call) changed(msg *message.Message) *transport.Message {
	m := wire.Decode(msg.UUID, maps.Clone(msg.Metadata), msg.Payload)
	if m.ID == "" {
		m.ID = c.delivery.Message().ID
	}
	if bytes.Equal(msg.Payload, c.delivery.Message().Payload) {
		m.Value = c.delivery.Message().Value
	}
	return &m
}

func (c *call) outcome(msg *message.Message, produced []*message.Message, err error) error {
	select {
	case <-msg.Acked():
		return nil
	default:
	}
	if err == nil && len(produced) > 0 {
		return bus.Permanent(fmt.Errorf("middleware/watermill: the middleware produced %d messages, which cannot be published from here", len(produced)))
	}
	select {
	case <-msg.Nacked():
		if err == nil {
			err = ErrNacked
		}
	default:
	}
	if err == nil {
		return nil
	}
	if wait, ok := c.delayed(msg); ok {
		if _, asked := bus.RetryDelay(err); !asked && !bus.IsPermanent(err) {
			return bus.RetryAfter(wait, err)
		}
	}
	return err
}

// delayed returns the delay that the middleware has put on the message.
func (c *call) delayed(msg *message.Message) (time.Duration, bool) {
	text := msg.Metadata.Get(delay.DelayedForKey)
	if text == "" || text == c.metadata[delay.DelayedForKey] {
		return 0, false
	}
	wait, err := time.ParseDuration(text)
	return wait, err == nil
}
