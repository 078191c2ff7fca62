package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	amqp "github.com/rabbitmq/amqp091-go"
)

// deliveryLimit is out of reach. Without it RabbitMQ 4 drops a message after 20 deliveries; 3.x does not know -1.
const deliveryLimit = int64(1) << 30

// watermillConfig is watermill-amqp's durable pub/sub configuration with our names and queue type.
func (t *Transport) watermillConfig(queue string, limit bool) wamqp.Config {
	cfg := wamqp.NewDurablePubSubConfig("", func(string) string { return queue })
	cfg.Exchange.GenerateName = exchangeName
	args := amqp.Table{}
	if t.cfg.Queue == Quorum {
		args["x-queue-type"] = "quorum"
		if limit {
			args["x-delivery-limit"] = deliveryLimit
		}
	}
	if t.cfg.SingleActiveConsumer {
		args["x-single-active-consumer"] = true
	}
	if len(args) > 0 {
		cfg.Queue.Arguments = args
	}
	return cfg
}

// limitsDeliveries reports whether the broker drops messages after some deliveries unless told otherwise: from 4.0 on.
func (c *connection) limitsDeliveries() bool {
	version, _ := c.Properties["version"].(string)
	major, err := strconv.Atoi(strings.SplitN(version, ".", 2)[0])
	return err != nil || major >= 4
}

// ensureTopic declares the exchange of a topic.
func (t *Transport) ensureTopic(ctx context.Context, c *connection, topic string) error {
	name := exchangeName(topic)
	return c.once(ctx, "exchange "+name, func(ch *amqp.Channel) error {
		var builder wamqp.DefaultTopologyBuilder
		if err := builder.ExchangeDeclare(ch, name, t.watermillConfig("", false)); err != nil {
			return explain(err, "exchange", name)
		}
		return nil
	})
}

// declareGroup declares the queue of a group and everything that leads to it. It does not look into the cache of c: a
// queue may be declared again because it was deleted.
func (t *Transport) declareGroup(ctx context.Context, c *connection, topic, group string) error {
	queue, exchange := queueName(topic, group), exchangeName(topic)
	declare := func(limit bool) error {
		return c.withChannel(ctx, func(ch *amqp.Channel) error {
			var builder wamqp.DefaultTopologyBuilder
			return builder.BuildTopology(ch, wamqp.BuildTopologyParams{
				Topic: topic, QueueName: queue, ExchangeName: exchange,
			}, t.watermillConfig(queue, limit), watermill.NopLogger{})
		})
	}
	err := declare(true)
	if isCode(err, amqp.PreconditionFailed) && strings.Contains(err.Error(), "x-delivery-limit") && !c.limitsDeliveries() {
		err = declare(false) // a quorum queue that somebody else declared, and as good as ours on this broker
	}
	if err != nil {
		what, name := "queue", queue
		var answer *amqp.Error
		if errors.As(err, &answer) {
			if m := inequivalent.FindStringSubmatch(answer.Reason); m != nil && m[2] == "exchange" {
				what, name = "exchange", exchange
			}
		}
		return explain(err, what, name)
	}
	// What is delayed finds its way only by these bindings; they went with the queue if it was deleted.
	err = c.withChannel(ctx, func(ch *amqp.Channel) error {
		if err := declareDelayOut(ch); err != nil {
			return err
		}
		if err := bindDelayedTopic(ch, exchange); err != nil {
			return err
		}
		return bindDelayedQueue(ch, queue)
	})
	if err != nil {
		return fmt.Errorf("bind queue %q for delayed messages: %w", queue, err)
	}
	return nil
}
