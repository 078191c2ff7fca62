package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var (
	consumers    atomic.Uint64 // makes consumer tags differ
	errCancelled = errors.New("the broker cancelled the consumer: its queue was deleted, or failed")
)

// consumer is one channel of a subscription: one generation.
type consumer struct {
	buffer
	gen     uint64 // set by adopt
	conn    *connection
	ch      *amqp.Channel
	settled chan struct{} // has an element when something was settled since probation looked
	asking  sync.Mutex    // held while an answer of the broker is awaited: the library does not tell apart whose it is
}

// consume opens a channel and begins to consume, at once or, with a history, after a probation.
func consume(conn *connection, name, queue string, prefetch int, h *history) (*consumer, error) {
	ch, err := conn.Channel()
	if err != nil {
		return nil, fmt.Errorf("open channel: %w", err)
	}
	if err := ch.Qos(prefetch, 0, false); err != nil {
		return nil, fmt.Errorf("set prefetch: %w", err)
	}
	c := &consumer{conn: conn, ch: ch, buffer: buffer{ready: make(chan struct{}, 1)}, settled: make(chan struct{}, 1)}
	closes := ch.NotifyClose(make(chan *amqp.Error, 1))
	p := &probation{c: c, history: h, queue: queue, tag: fmt.Sprintf("%.200s-%d", name, consumers.Add(1)), seen: map[string]bool{}, over: h == nil}
	if err := p.step(); err != nil {
		ch.Close()
		return nil, fmt.Errorf("consume from queue %q: %w", queue, err)
	}
	run := func() {
		if err := p.run(closes); err != nil {
			c.stop(err)
			return
		}
		c.pump(p.deliveries, closes)
	}
	if !conn.spawn(run) {
		return nil, amqp.ErrClosed
	}
	return c, nil
}

// pump moves deliveries into the buffer, until the channel is closed or the broker cancels the consumer.
func (c *consumer) pump(deliveries <-chan amqp.Delivery, closes <-chan *amqp.Error) {
	for d := range deliveries {
		c.add(&d)
	}
	c.stop(c.reason(closes, errCancelled))
}

// reason returns why the channel was closed; err if it is open.
func (c *consumer) reason(closes <-chan *amqp.Error, err error) error {
	if !c.ch.IsClosed() {
		return err
	}
	if err := <-closes; err != nil { // closed with the channel
		return err
	}
	return amqp.ErrClosed
}

// close closes the channel; the broker then gives what is unsettled to other consumers. It waits closeWait for a broker
// that is slow. One that never answers loses the connection, else the messages would stay with a channel that nobody reads.
func (c *consumer) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	_ = c.conn.await(ctx, func() error {
		cut := time.AfterFunc(closeLimit, func() { c.conn.sock.Conn.Close() })
		defer cut.Stop()
		c.asking.Lock()
		defer c.asking.Unlock()
		return c.ch.Close()
	})
}

// settle writes acks and nacks as one.
func (c *consumer) settle(acks []ackFrame, requeues []uint64) {
	if len(acks)+len(requeues) > 0 {
		defer c.noteSettled()
	}
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

func (c *consumer) noteSettled() {
	select {
	case c.settled <- struct{}{}:
	default:
	}
}
