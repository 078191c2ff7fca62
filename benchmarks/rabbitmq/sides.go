package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/rabbitmq" // the transport under test
)

const (
	group    = "g"
	prefetch = 1000
	channels = 16 // watermill-amqp publishes on one channel per concurrent call
)

var payload = []byte(`{"order_id":"0193a5c2-7b1e-7c3a-9d55-3f1e6a0b9c41","cents":4200,"note":"a payload of about a hundred bytes"}`)

// ourSide is transport/rabbitmq.
type ourSide struct{ t transport.Transport }

func newOurs(ctx context.Context, url string) (side, error) {
	t, err := transport.Open(ctx, url)
	return &ourSide{t}, err
}

func (r *ourSide) declare(ctx context.Context, topic string) error {
	sub, err := r.t.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: group})
	if err != nil {
		return err
	}
	return sub.Close()
}

func (r *ourSide) publish(ctx context.Context, topic string, n int) error {
	msgs := make([]transport.Message, n)
	for i := range msgs {
		msgs[i] = transport.Message{ID: watermill.NewUUID(), Name: "orders.placed", CorrelationID: "c", Time: time.Now(), Payload: payload}
	}
	return r.t.Publish(ctx, topic, msgs)
}

func (r *ourSide) consume(ctx context.Context, topic string, n int, ready, each func()) error {
	sub, err := r.t.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: prefetch})
	if err != nil {
		return err
	}
	defer sub.Close()
	ready()
	settlements := make([]transport.Settlement, 0, 256)
	for n > 0 {
		ds, err := sub.Receive(ctx, 256)
		if err != nil {
			return err
		}
		settlements = settlements[:0]
		for i := range ds {
			each()
			settlements = append(settlements, transport.Settlement{Tag: ds[i].Tag, Outcome: transport.Ack})
		}
		if err := sub.Settle(ctx, settlements); err != nil {
			return err
		}
		n -= len(ds)
	}
	return nil
}

func (r *ourSide) close() { r.t.Close() }

// millSide is watermill-amqp, with confirms, a pool of channels, and the same queue type and prefetch.
type millSide struct {
	cfg wamqp.Config
	pub *wamqp.Publisher
}

func newMill(url string) (side, error) {
	cfg := wamqp.NewDurablePubSubConfig(url, wamqp.GenerateQueueNameTopicNameWithSuffix(group))
	cfg.Publish.ConfirmDelivery = true
	cfg.Publish.ChannelPoolSize = channels
	cfg.Queue.Arguments = amqp.Table{"x-queue-type": "quorum"}
	cfg.Consume.Qos.PrefetchCount = prefetch
	pub, err := wamqp.NewPublisher(cfg, watermill.NopLogger{})
	return &millSide{cfg, pub}, err
}

func (r *millSide) declare(_ context.Context, topic string) error {
	sub, err := wamqp.NewSubscriber(r.cfg, watermill.NopLogger{})
	if err != nil {
		return err
	}
	return errors.Join(sub.SubscribeInitialize(topic), sub.Close())
}

func (r *millSide) publish(_ context.Context, topic string, n int) error {
	msgs := make([]*message.Message, n)
	for i := range msgs {
		msgs[i] = message.NewMessage(watermill.NewUUID(), payload)
		msgs[i].Metadata = message.Metadata{"name": "orders.placed", "correlation_id": "c", "time": time.Now().Format(time.RFC3339Nano)}
	}
	return r.pub.Publish(topic, msgs...)
}

func (r *millSide) consume(ctx context.Context, topic string, n int, ready, each func()) error {
	sub, err := wamqp.NewSubscriber(r.cfg, watermill.NopLogger{})
	if err != nil {
		return err
	}
	defer sub.Close()
	msgs, err := sub.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	ready()
	for range n {
		msg := <-msgs
		each()
		msg.Ack()
	}
	return nil
}

func (r *millSide) close() { r.pub.Close() }

// rawSide is amqp091-go as its documentation recommends it: deferred confirms, awaited at the end of each call; prefetch
// and multiple acks.
type rawSide struct {
	conn, consuming *amqp.Connection
	ch              *amqp.Channel
}

func newRaw(url string) (side, error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	consuming, err := amqp.Dial(url)
	if err != nil {
		return nil, err
	}
	ch, err := conn.Channel()
	if err != nil {
		return nil, err
	}
	return &rawSide{conn: conn, consuming: consuming, ch: ch}, ch.Confirm(false)
}

func (r *rawSide) declare(_ context.Context, topic string) error {
	queue := topic + "_" + group
	if _, err := r.ch.QueueDeclare(queue, true, false, false, false, amqp.Table{"x-queue-type": "quorum"}); err != nil {
		return err
	}
	if err := r.ch.ExchangeDeclare(topic, "fanout", true, false, false, false, nil); err != nil {
		return err
	}
	return r.ch.QueueBind(queue, "", topic, false, nil)
}

func (r *rawSide) publish(ctx context.Context, topic string, n int) error {
	confirms := make([]*amqp.DeferredConfirmation, n)
	for i := range confirms {
		var err error
		confirms[i], err = r.ch.PublishWithDeferredConfirmWithContext(ctx, topic, "", false, false, rawMessage())
		if err != nil {
			return err
		}
	}
	for _, c := range confirms {
		if ok, err := c.WaitContext(ctx); err != nil || !ok {
			return fmt.Errorf("not confirmed: %w", err)
		}
	}
	return nil
}

func rawMessage() amqp.Publishing {
	return amqp.Publishing{
		DeliveryMode: amqp.Persistent, Body: payload,
		Headers: amqp.Table{
			wamqp.DefaultMessageUUIDHeaderKey: watermill.NewUUID(),
			"name":                            "orders.placed", "correlation_id": "c", "time": time.Now().Format(time.RFC3339Nano),
		},
	}
}

func (r *rawSide) consume(_ context.Context, topic string, n int, ready, each func()) error {
	ch, err := r.consuming.Channel()
	if err != nil {
		return err
	}
	defer ch.Close()
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(topic+"_"+group, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	ready()
	for i := 1; i <= n; i++ {
		d := <-deliveries
		each()
		if i%100 == 0 || i == n {
			if err := d.Ack(true); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *rawSide) close() {
	r.conn.Close()
	r.consuming.Close()
}
