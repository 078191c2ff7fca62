package rabbitmq

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	amqp "github.com/rabbitmq/amqp091-go"
)

// A tag of a delivery is the generation of its channel and, in the lower tagBits, the broker's tag.
const tagBits = 40

var consumers atomic.Uint64 // makes consumer tags differ

// consumer is one channel of a subscription: one generation.
type consumer struct {
	gen   uint64
	conn  *connection
	ch    *amqp.Channel
	ready chan struct{} // has an element when there is something to look at

	mu   sync.Mutex
	buf  []amqp.Delivery // fetched and not received
	over error           // why no more comes; what is in buf is void then
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
	c := &consumer{gen: gen, conn: conn, ch: ch, ready: make(chan struct{}, 1)}
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

// pump moves deliveries into buf, until the channel is closed or the broker cancels the consumer.
func (c *consumer) pump(deliveries <-chan amqp.Delivery, closes <-chan *amqp.Error) {
	for d := range deliveries {
		c.mu.Lock()
		c.buf = append(c.buf, d)
		first := len(c.buf) == 1
		c.mu.Unlock()
		if first {
			c.signal()
		}
	}
	why := fmt.Errorf("the broker cancelled the consumer: its queue was deleted, or failed")
	if c.ch.IsClosed() {
		why = amqp.ErrClosed
		if err := <-closes; err != nil { // closed with the channel
			why = err
		}
	}
	c.mu.Lock()
	c.over = why
	c.mu.Unlock()
	c.signal()
}

func (c *consumer) signal() {
	select {
	case c.ready <- struct{}{}:
	default:
	}
}

// take returns up to n deliveries; if there will be none any more, the reason.
func (c *consumer) take(n int) ([]amqp.Delivery, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over != nil {
		return nil, c.over
	}
	if n >= len(c.buf) {
		batch := c.buf
		c.buf = nil
		return batch, nil
	}
	batch := slices.Clone(c.buf[:n])
	c.buf = slices.Delete(c.buf, 0, n)
	c.signal()
	return batch, nil
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

// rest returns what was fetched and not received.
func (c *consumer) rest() []amqp.Delivery {
	c.mu.Lock()
	defer c.mu.Unlock()
	batch := c.buf
	c.buf = nil
	return batch
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
