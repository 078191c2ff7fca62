package rabbitmq

import (
	"context"
	"fmt"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
)

var _ transport.Tailer = (*Transport)(nil)

// Tail implements transport.Tailer by a queue that goes with the connection. It begins now, and ends when the connection is
// lost.
func (t *Transport) Tail(ctx context.Context, topic string, _ transport.Start, f func(m *transport.Message) error) error {
	if err := t.tail(ctx, topic, f); err != nil {
		return fmt.Errorf("rabbitmq: tail %q: %w", topic, err)
	}
	return nil
}

func (t *Transport) tail(ctx context.Context, topic string, f func(m *transport.Message) error) error {
	l, err := t.consumingLink(ctx)
	if err != nil {
		return err
	}
	conn, err := l.get(ctx)
	if err != nil {
		return err
	}
	var ch *amqp.Channel
	var deliveries <-chan amqp.Delivery
	err = conn.await(ctx, func() (err error) {
		if ch, err = conn.Channel(); err != nil {
			return err
		}
		deliveries, err = tailQueue(ch, exchangeName(topic))
		return err
	})
	if isCode(err, amqp.NotFound) {
		err = fmt.Errorf("%w: nothing was published to it, and no group has joined it", transport.ErrNoTopic)
	}
	if err != nil {
		return err
	}
	defer func() {
		_ = conn.await(context.WithoutCancel(ctx), func() error { return ch.Close() })
		for range deliveries { // until the library has noticed
		}
	}()
	for {
		select {
		case d, open := <-deliveries:
			if !open {
				return fmt.Errorf("the connection was lost: %w", conn.reason())
			}
			m, _ := decode(&d)
			if err := f(&m); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// tailQueue makes a queue of this connection alone on an exchange that exists, and consumes from it.
func tailQueue(ch *amqp.Channel, exchange string) (<-chan amqp.Delivery, error) {
	if err := ch.ExchangeDeclarePassive(exchange, "fanout", true, false, false, false, nil); err != nil {
		return nil, err
	}
	q, err := ch.QueueDeclare("", false, true, true, false, nil)
	if err != nil {
		return nil, err
	}
	if err := ch.QueueBind(q.Name, "", exchange, false, nil); err != nil {
		return nil, err
	}
	return ch.Consume(q.Name, "", true, true, false, false, nil)
}
