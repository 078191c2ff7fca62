package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"

	amqp "github.com/rabbitmq/amqp091-go"
)

// boundSide is the broker with next to no client, and so the bound of every client: the frames of a call, encoded when
// the topic is declared, go to the socket in one write, and their confirms are counted. It publishes only.
type boundSide struct {
	url    string
	conn   *amqp.Connection // of the topic that was declared last
	sock   *recorder
	frames []byte

	mu    sync.Mutex
	calls chan chan struct{} // in the order in which they were written; each is closed when confirmed
}

// recorder keeps what is written to it while it is on, instead of passing it on.
type recorder struct {
	net.Conn
	mu    sync.Mutex
	on    bool
	bytes []byte
}

func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.on {
		r.bytes = append(r.bytes, p...)
		return len(p), nil
	}
	return r.Conn.Write(p)
}

// record returns what f writes.
func (r *recorder) record(f func() error) ([]byte, error) {
	set := func(on bool) {
		r.mu.Lock()
		r.on = on
		r.mu.Unlock()
	}
	set(true)
	defer set(false)
	err := f()
	return r.bytes, err
}

func newBound(url string) side { return &boundSide{url: url} }

func (b *boundSide) declare(ctx context.Context, topic string) error {
	b.close()
	if err := sides[raw].declare(ctx, topic); err != nil {
		return err
	}
	conn, err := amqp.DialConfig(b.url, amqp.Config{Dial: func(network, addr string) (net.Conn, error) {
		c, err := net.Dial(network, addr)
		b.sock = &recorder{Conn: c}
		return b.sock, err
	}})
	if err != nil {
		return err
	}
	b.conn = conn
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	if err := ch.Confirm(false); err != nil {
		return err
	}
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, 1<<12))
	b.calls = make(chan chan struct{}, 1<<8)
	go count(confirms, b.calls)
	b.frames, err = b.sock.record(func() error {
		for range perCall {
			if err := ch.PublishWithContext(ctx, topic, "", false, false, rawMessage()); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// count closes the next of calls whenever so many messages are confirmed as one has, until confirms is closed. The one
// queue confirms in order.
func count(confirms <-chan amqp.Confirmation, calls <-chan chan struct{}) {
	for {
		for range perCall {
			if c, ok := <-confirms; !ok || !c.Ack {
				return
			}
		}
		close(<-calls)
	}
}

func (b *boundSide) publish(ctx context.Context, _ string, n int) error {
	if n != perCall {
		return fmt.Errorf("the frames are those of %d messages, not %d", perCall, n)
	}
	done := make(chan struct{})
	b.mu.Lock()
	b.calls <- done
	_, err := b.sock.Conn.Write(b.frames)
	b.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not confirmed: %w", ctx.Err())
	}
}

func (b *boundSide) consume(context.Context, string, int, func(), func()) error {
	return errors.ErrUnsupported
}

func (b *boundSide) close() {
	if b.conn != nil {
		b.conn.Close()
	}
}
