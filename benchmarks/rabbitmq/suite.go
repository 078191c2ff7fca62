// Package rabbitmq measures transport/rabbitmq beside watermill-amqp and raw amqp091-go on one broker: persistent
// messages, durable quorum queues, confirms on; the payload and the number of headers are the same for all.
package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

const (
	perCall = 20   // messages a call of Publish
	fill    = 1000 // messages a call when a backlog is made
)

// Suite needs the URL of a broker in POSTBUS_TEST_RABBITMQ_URL.
//
// publish-1 and publish-16 have so many publishers, each with calls of 20 messages that it waits for. consume receives
// and acknowledges a backlog, with a prefetch of 1,000 on all sides. latency is the median from before a publish to its
// arrival, one message at a time, in microseconds: there, less is better, and a ratio of at most 1 the goal.
var Suite = bench.Suite{
	Name:  "rabbitmq",
	About: "publish and consume through a RabbitMQ broker: watermill-amqp, raw amqp091-go",
	Open:  open,
	Cases: []bench.Case{
		{
			Name: "publish-1", Ours: publishing(ours, 1),
			Peers: []bench.Peer{
				{Name: "watermill-amqp", Run: publishing(mill, 1), Goal: 12},
				{Name: "amqp091", Run: publishing(raw, 1), Goal: 0.85},
			},
		},
		{
			Name: "publish-16", Ours: publishing(ours, 16),
			Peers: []bench.Peer{{Name: "watermill-amqp", Run: publishing(mill, 16), Goal: 4}},
		},
		{
			Name: "consume", Ours: consuming(ours),
			Peers: []bench.Peer{
				{Name: "watermill-amqp", Run: consuming(mill), Goal: 8},
				{Name: "amqp091", Run: consuming(raw), Goal: 0.85},
			},
		},
		{
			Name: "latency", Unit: "us", N: 100, Ours: latency(ours),
			Peers: []bench.Peer{{Name: "watermill-amqp", Run: latency(mill)}},
		},
	},
}

// Bound has what a client of that broker could reach at most where [Suite] publishes.
var Bound = bench.Suite{
	Name:  "rabbitmq-bound",
	About: "the same broker alone: frames that are ready before, in one write",
	Open:  open,
	Cases: []bench.Case{
		{
			Name: "publish-1", Ours: publishing(ours, 1),
			Peers: []bench.Peer{{Name: "broker-alone", Run: publishing(bound, 1)}},
		},
		{
			Name: "publish-16", Ours: publishing(ours, 16),
			Peers: []bench.Peer{
				{Name: "broker-alone", Run: publishing(bound, 16)},
				{Name: "amqp091", Run: publishing(raw, 16)},
			},
		},
	},
}

// side is one of those compared.
type side interface {
	// publish publishes n messages in one call and returns when they are confirmed. It may be called concurrently.
	publish(ctx context.Context, topic string, n int) error
	// consume calls ready when a subscription has begun, receives and acknowledges n messages, and calls each after each.
	consume(ctx context.Context, topic string, n int, ready, each func()) error
	// declare makes the topic and its queue.
	declare(ctx context.Context, topic string) error
	close()
}

// Which side; the sides themselves are there once the suite is open.
const (
	ours = iota
	mill
	raw
	bound
)

var (
	sides [4]side
	admin *amqp.Connection
)

func open(ctx context.Context) (closeAll func() error, err error) {
	url := os.Getenv("POSTBUS_TEST_RABBITMQ_URL")
	if url == "" {
		return nil, errors.New(`no broker: POSTBUS_TEST_RABBITMQ_URL is not set; run: eval "$(scripts/services env)"`)
	}
	sides, admin = [4]side{}, nil // those of another suite are closed
	closeAll = func() error {
		for _, s := range sides {
			if s != nil {
				s.close()
			}
		}
		if admin != nil {
			return admin.Close()
		}
		return nil
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, closeAll())
		}
	}()
	if admin, err = amqp.Dial(url); err != nil {
		return nil, err
	}
	if sides[ours], err = newOurs(ctx, url); err != nil {
		return nil, err
	}
	if sides[mill], err = newMill(url); err != nil {
		return nil, err
	}
	sides[bound] = newBound(url)
	sides[raw], err = newRaw(url)
	return closeAll, err
}

// withTopic runs f with a topic of its own, whose queue is empty.
func withTopic(ctx context.Context, s side, f func(topic string) error) error {
	topic := fmt.Sprintf("bench-%d", time.Now().UnixNano())
	if err := s.declare(ctx, topic); err != nil {
		return err
	}
	err := f(topic)
	ch, chErr := admin.Channel()
	if chErr != nil {
		return errors.Join(err, chErr)
	}
	defer ch.Close()
	_, queueErr := ch.QueueDelete(topic+"_"+group, false, false, false)
	return errors.Join(err, queueErr, ch.ExchangeDelete(topic, false, false))
}

func publishing(which, publishers int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		s := sides[which]
		return withTopic(ctx, s, func(topic string) error {
			calls := max(1, r.N/perCall/publishers)
			errs := make(chan error, publishers)
			r.Start()
			for range publishers {
				go func() {
					var err error
					for i := 0; i < calls && err == nil; i++ {
						err = s.publish(ctx, topic, perCall)
					}
					errs <- err
				}()
			}
			var err error
			for range publishers {
				err = errors.Join(err, <-errs)
			}
			r.Stop(calls * perCall * publishers)
			return err
		})
	}
}

func consuming(which int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		s := sides[which]
		return withTopic(ctx, s, func(topic string) error {
			for left := r.N; left > 0; left -= fill { // in the same way for all
				if err := sides[raw].publish(ctx, topic, min(fill, left)); err != nil {
					return err
				}
			}
			got := 0
			err := s.consume(ctx, topic, r.N, r.Start, func() { got++ })
			r.Stop(got)
			return err
		})
	}
}

func latency(which int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		s := sides[which]
		return withTopic(ctx, s, func(topic string) error {
			const warm = 10
			ready, arrived, done := make(chan struct{}), make(chan struct{}, 1), make(chan error, 1)
			go func() {
				done <- s.consume(ctx, topic, warm+r.N, func() { close(ready) }, func() { arrived <- struct{}{} })
			}()
			<-ready
			times := make([]float64, 0, warm+r.N)
			r.Start()
			for range warm + r.N {
				start := time.Now()
				if err := s.publish(ctx, topic, 1); err != nil {
					return err
				}
				select {
				case <-arrived:
				case err := <-done:
					return errors.Join(errors.New("the consumer ended early"), err)
				}
				times = append(times, float64(time.Since(start).Microseconds()))
			}
			r.Stop(r.N)
			slices.Sort(times[warm:])
			r.Report(times[warm+r.N/2])
			return <-done
		})
	}
}
