package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	consumers    atomic.Uint64 // makes consumer tags differ
	errCancelled = errors.New("the broker cancelled the consumer: its queue was deleted, or failed")
)

// consumer is one channel of a subscription: one generation.
type consumer struct {
	buffer
	gen  uint64
	conn *connection
	ch   *amqp.Channel
}

// consume opens a channel and begins to consume.
func consume(conn *connection, gen uint64, name, queue string, prefetch int) (*consumer, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return nil, fmt.Errorf("set prefetch: %w", err)
	}
	c := &consumer{gen: gen, conn: conn, ch: ch, buffer: buffer{ready: make(chan struct{}, 1)}}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	tag := fmt.Sprintf("%.200s-%d", name, consumers.Add(1))
	deliveries, err := ch.Consume(queue, tag, false, false, false, false, nil)
	if err != nil {
		ch.Close()
		return nil, fmt.Errorf("consume from queue %q: %w", queue, err)
	}
	if !conn.spawn(func() { c.pump(deliveries, closes) }) {
		return nil, amqp.ErrClosed
	}
	return c, nil
}

// pump moves deliveries into the buffer, until the channel is closed or the broker cancels the consumer.
func (c *consumer) pump(deliveries <-chan amqp.Delivery, closes <-chan *amqp.Error) {
	for d := range deliveries {
		c.add(&d)
	}
	why := errCancelled
	if c.ch.IsClosed() {
		why = amqp.ErrClosed
		if err := <-closes; err != nil { // closed with the channel
			why = err
		}
	}
	c.stop(why)
}

// close closes the channel; the broker then gives what is unsettled to other consumers. It does not wait for a broker
// that does not answer.
func (c *consumer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if c.conn.await(ctx, c.ch.Close) != nil {
		c.conn.sock.Conn.Close() // else the messages would stay with a channel that nobody reads
	}
}

// settle writes acks and nacks as one.
func (c *consumer) settle(acks []ackFrame, requeues []uint64) {
	c.conn.sock.cork()
	defer c.conn.sock.uncork()
	for _, a := range acks {
		if c.ch.Ack(a.tag, a.multiple) != nil {
			return // the channel is lost, and with it the tags
		}
	}
	for _, tag := range requeues {
		if c.ch.Nack(tag, false, true) != nil {
			return
		}
	}
}
