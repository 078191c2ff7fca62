package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

const (
	group = "g"
	// theirTopic is that of the peer, for a queue of the same name has other arguments.
	theirTopic = "orders.theirs"
)

// purge empties the queue of the group, whose name both sides make alike, so that no run meets what another has left.
func purge(topic string) (err error) {
	conn, err := amqp.Dial(broker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueuePurge(topic+"_"+group, false)
	}
	return err
}

// confirming counts what it has published.
type confirming struct {
	message.Publisher
	left atomic.Int64
	all  chan struct{}
}

func (c *confirming) Publish(topic string, msgs ...*message.Message) error {
	err := c.Publisher.Publish(topic, msgs...)
	if err == nil && c.left.Add(-int64(len(msgs))) == 0 {
		close(c.all)
	}
	return err
}

// theirsForward is Watermill's forwarder from its own tables, with confirms as ours has, to the same kind of queue.
func theirsForward(ctx context.Context, r *bench.Run) (err error) {
	schema, offsets := wsql.DefaultPostgreSQLSchema{}, wsql.DefaultPostgreSQLOffsetsAdapter{}
	from := wsql.BeginnerFromStdSQL(db.SQL())
	waiting := unique("forwarder")
	in, err := wsql.NewPublisher(from, wsql.PublisherConfig{SchemaAdapter: schema, AutoInitializeSchema: true}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	enveloped := forwarder.NewPublisher(in, forwarder.PublisherConfig{ForwarderTopic: waiting})
	for i := 0; i < r.N; {
		var msgs []*message.Message
		for ; i < r.N && len(msgs) < fillBatch; i++ {
			e := event(i)
			msgs = append(msgs, message.NewMessage(watermill.NewUUID(), fmt.Appendf(nil, `{"order_id":%q,"customer":%q,"cents":%d}`, e.OrderID, e.Customer, e.Cents)))
		}
		if err := enveloped.Publish(theirTopic, msgs...); err != nil {
			return err
		}
	}
	cfg := wamqp.NewDurablePubSubConfig(broker, wamqp.GenerateQueueNameTopicNameWithSuffix(group))
	cfg.Publish.ConfirmDelivery = true
	cfg.Queue.Arguments = amqp.Table{"x-queue-type": "quorum"}
	queue, err := wamqp.NewSubscriber(cfg, watermill.NopLogger{})
	if err == nil {
		err = errors.Join(queue.SubscribeInitialize(theirTopic), queue.Close(), purge(theirTopic))
	}
	if err != nil {
		return err
	}
	out, err := wamqp.NewPublisher(cfg, watermill.NopLogger{})
	if err != nil {
		return err
	}
	sub, err := wsql.NewSubscriber(from, wsql.SubscriberConfig{SchemaAdapter: schema, OffsetsAdapter: offsets, InitializeSchema: true}, watermill.NopLogger{})
	if err != nil {
		return err
	}
	to := &confirming{Publisher: out, all: make(chan struct{})}
	to.left.Store(int64(r.N))
	f, err := forwarder.NewForwarder(sub, to, watermill.NopLogger{}, forwarder.Config{ForwarderTopic: waiting})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	r.Start()
	go func() { ended <- f.Run(ctx) }()
	select {
	case <-to.all:
		r.Stop(r.N)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, f.Close(), <-ended, sub.Close(), out.Close(), enveloped.Close())
}
