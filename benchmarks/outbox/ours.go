package outbox

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/rabbitmq" // the scheme
)

type placed struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

func (placed) EventName() string { return topic + ".placed" }

func event(i int) placed { return placed{fmt.Sprint("order-", i), "customer-4711", int64(i)} }

var quiet = slog.New(slog.DiscardHandler)

// filled makes a box with n events in it.
func filled(ctx context.Context, n int) (*outbox.Box, error) {
	box := outbox.New(db, outbox.Config{Name: unique("box"), Logger: quiet})
	for i := 0; i < n; {
		var events []bus.Event
		for ; i < n && len(events) < fillBatch; i++ {
			events = append(events, event(i))
		}
		if err := box.Tx(ctx, func(tx *outbox.Tx) error { return tx.Publish(ctx, events...) }); err != nil {
			return nil, err
		}
	}
	return box, box.Prepare(ctx)
}

// counted closes all once as many messages were confirmed as it wants.
type counted struct {
	transport.Transport
	left atomic.Int64
	all  chan struct{}
}

func count(t transport.Transport, n int) *counted {
	c := &counted{Transport: t, all: make(chan struct{})}
	c.left.Store(int64(n))
	return c
}

func (c *counted) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	n := int64(len(msgs))
	err := c.Transport.Publish(ctx, topic, msgs)
	if err == nil && c.left.Add(-n) == 0 {
		close(c.all)
	}
	return err
}

// forward measures how a backlog of r.N is forwarded to t, from the start of the Forwarder.
func forward(ctx context.Context, r *bench.Run, t transport.Transport) (err error) {
	box, err := filled(ctx, r.N)
	if err != nil {
		return err
	}
	to := count(t, r.N)
	f, err := outbox.NewForwarder(box, to, outbox.ForwarderConfig{})
	if err != nil {
		return err
	}
	r.Start()
	if err := f.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Stop(ctx)) }()
	select {
	case <-to.all:
	case <-ctx.Done():
		return fmt.Errorf("%w: %d messages are not forwarded", ctx.Err(), to.left.Load())
	}
	r.Stop(r.N)
	for {
		b, err := f.Backlog(ctx)
		if err != nil {
			return err
		}
		if b.Messages == 0 {
			return nil
		}
	}
}

// forwardRabbit: the topic has a queue, so that each message is stored and confirmed.
func forwardRabbit(ctx context.Context, r *bench.Run) (err error) {
	t, err := transport.Open(ctx, broker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	sub, err := t.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: group})
	if err == nil {
		err = sub.Close()
	}
	if err == nil {
		err = purge(topic)
	}
	if err != nil {
		return err
	}
	return forward(ctx, r, t)
}

// forwardMemory: a group takes the messages.
func forwardMemory(ctx context.Context, r *bench.Run) (err error) {
	t := memory.New(memory.Config{})
	defer func() { err = errors.Join(err, t.Close()) }()
	sub, err := t.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: 1000})
	if err != nil {
		return err
	}
	go func() {
		for {
			got, err := sub.Receive(ctx, 1000)
			if err != nil {
				return
			}
			acks := make([]transport.Settlement, len(got))
			for i := range got {
				acks[i] = transport.Settlement{Tag: got[i].Tag, Outcome: transport.Ack}
			}
			if sub.Settle(ctx, acks) != nil {
				return
			}
		}
	}()
	return forward(ctx, r, t)
}

// latency is the median from the return of Commit until the target has the message, on an idle system. Writer and
// Forwarder have handles of their own, as two processes have: what wakes the Forwarder comes through the database.
func latency(tail bool) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		other, err := store.Open(ctx, url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, other.Close()) }()
		name := unique("box")
		writer, reader := outbox.New(db, outbox.Config{Name: name}), outbox.New(other, outbox.Config{Name: name, Logger: quiet})
		came := make(chan time.Time, 1)
		f, err := outbox.NewForwarder(reader, arrivals{came: came}, outbox.ForwarderConfig{Tail: tail})
		if err != nil {
			return err
		}
		if err := f.Start(ctx); err != nil {
			return err
		}
		defer func() {
			err = errors.Join(err, f.Stop(ctx))
			for tail && err == nil { // until the server has seen that the reader is gone
				if dropped := reader.DropTail(ctx); !errors.Is(dropped, outbox.ErrSlotBusy) {
					err = dropped
					break
				}
			}
		}()
		var took []time.Duration
		for i := range r.N + 1 {
			time.Sleep(20*time.Millisecond + time.Duration(i%7)*7*time.Millisecond)
			if i == 1 { // the first has made tables and connections
				r.Start()
			}
			tx, err := db.SQL().BeginTx(ctx, nil)
			if err == nil {
				err = errors.Join(writer.In(tx).Publish(ctx, event(i)), tx.Commit())
			}
			if err != nil {
				return err
			}
			committed := time.Now()
			select {
			case at := <-came:
				took = append(took, max(0, at.Sub(committed)))
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		r.Stop(r.N)
		took = took[1:]
		slices.Sort(took)
		r.Report(float64(took[len(took)/2]) / float64(time.Millisecond))
		return nil
	}
}

// arrivals tells when a message was published to it. A Forwarder asks for nothing but its two methods.
type arrivals struct {
	transport.Transport
	came chan time.Time
}

func (arrivals) Capabilities() transport.Capabilities { return transport.Capabilities{} }

func (a arrivals) Publish(context.Context, string, []transport.Message) error {
	a.came <- time.Now()
	return nil
}
