package database

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

// adapters make watermill-sql's for a batch size.
type adapters func(batch int) (wsql.SchemaAdapter, wsql.OffsetsAdapter)

func theirMessages(from, n int) []*message.Message {
	msgs := make([]*message.Message, n)
	for i, m := range messages(from, n) {
		msgs[i] = message.NewMessage(m.ID, message.Payload(m.Payload))
		msgs[i].Metadata.Set("name", m.Name)
	}
	return msgs
}

func (s *server) theirPublisher(a adapters) (*wsql.Publisher, error) {
	schema, _ := a(0)
	return wsql.NewPublisher(wsql.BeginnerFromStdSQL(s.db), wsql.PublisherConfig{SchemaAdapter: schema, AutoInitializeSchema: true}, watermill.NopLogger{})
}

func (s *server) theirsPublish16(a adapters) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		p, err := s.theirPublisher(a)
		if err != nil {
			return err
		}
		topic := unique("p")
		if err := p.Publish(topic, theirMessages(0, 1)...); err != nil {
			return err
		}
		r.Start()
		err = each(r.N, func(i int) error { return p.Publish(topic, theirMessages(i, 1)...) })
		r.Stop(r.N)
		return errors.Join(err, p.Close(), s.count(ctx, topic, r.N+1))
	}
}

func (s *server) theirsPublish1000(a adapters) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		p, err := s.theirPublisher(a)
		if err != nil {
			return err
		}
		topic := unique("p")
		if err := p.Publish(topic, theirMessages(0, 1)...); err != nil {
			return err
		}
		r.Start()
		for i := range r.N {
			if err := p.Publish(topic, theirMessages(i*atOnce, atOnce)...); err != nil {
				return err
			}
		}
		r.Stop(r.N * atOnce)
		return errors.Join(p.Close(), s.count(ctx, topic, r.N*atOnce+1))
	}
}

// theirsConsume handles r.N messages of the backlog of topic, or as many as it does within the limit.
func (s *server) theirsConsume(topic string, a adapters, batch int, limit time.Duration) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		if err := s.fill(ctx, topic); err != nil {
			return err
		}
		schema, offsets := a(batch)
		sub, err := wsql.NewSubscriber(wsql.BeginnerFromStdSQL(s.db), wsql.SubscriberConfig{
			ConsumerGroup: unique("w"), SchemaAdapter: schema, OffsetsAdapter: offsets, InitializeSchema: true,
		}, watermill.NopLogger{})
		if err != nil {
			return err
		}
		end := time.After(limit)
		r.Start()
		c, err := sub.Subscribe(ctx, topic)
		if err != nil {
			return err
		}
		seen := 0
	loop:
		for seen < r.N {
			select {
			case m, ok := <-c:
				if !ok {
					return fmt.Errorf("closed after %d", seen)
				}
				m.Ack()
				seen++
			case <-end:
				break loop
			}
		}
		r.Stop(seen)
		return sub.Close()
	}
}

func (s *server) theirsLatency(a adapters, quantile float64) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		schema, offsets := a(0)
		sub, err := wsql.NewSubscriber(wsql.BeginnerFromStdSQL(s.db), wsql.SubscriberConfig{
			ConsumerGroup: "w", SchemaAdapter: schema, OffsetsAdapter: offsets, InitializeSchema: true,
		}, watermill.NopLogger{})
		if err != nil {
			return err
		}
		p, err := s.theirPublisher(a)
		if err != nil {
			return err
		}
		topic := unique("l")
		c, err := sub.Subscribe(ctx, topic)
		if err != nil {
			return err
		}
		r.Start()
		var took []time.Duration
		for i := range min(r.N, 5) { // each takes about half a second
			time.Sleep(20*time.Millisecond + time.Duration(i%7)*7*time.Millisecond)
			if err := p.Publish(topic, theirMessages(i, 1)...); err != nil {
				return err
			}
			published := time.Now()
			m, ok := <-c
			if !ok {
				return errors.New("the message did not come")
			}
			took = append(took, time.Since(published))
			m.Ack()
		}
		r.Stop(r.N)
		r.Report(quantileOf(took, quantile))
		return errors.Join(sub.Close(), p.Close())
	}
}

// quantileOf returns a quantile in milliseconds.
func quantileOf(took []time.Duration, q float64) float64 {
	slices.Sort(took)
	return float64(took[int(q*float64(len(took)-1))]) / float64(time.Millisecond)
}
