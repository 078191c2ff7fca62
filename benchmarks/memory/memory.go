// Package memory measures events that stay within the process.
package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"

	EventBus "github.com/asaskevich/EventBus"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
)

// Suite has one publisher publish one event per call to one group, unless a case says otherwise. README.md describes
// the cases.
var Suite = bench.Suite{
	Name:  "memory",
	About: "events within the process: Watermill's CQRS and GoChannel, asaskevich/EventBus, bare channels",
	Cases: []bench.Case{
		{
			Name: "reference-at-least-once",
			Ours: postbus(options{share: true, workers: 1}),
			Peers: []bench.Peer{
				{Name: "watermill-cqrs", Run: watermillCQRS(1), Goal: 60},
				{Name: "asaskevich", Run: asaskevich, Goal: 1},
			},
		},
		{
			Name: "json",
			Ours: postbus(options{}),
			Peers: []bench.Peer{
				{Name: "watermill-cqrs", Run: watermillCQRS(1), Goal: 10},
				{Name: "encoding/json", Run: encodingJSON, Goal: 0.75},
			},
		},
		{
			Name:  "raw",
			Ours:  postbus(options{}),
			Peers: []bench.Peer{{Name: "watermill-gochannel", Run: watermillRaw}},
		},
		{
			Name: "reference-at-most-once",
			Ours: postbus(options{share: true, workers: 1, delivery: bus.AtMostOnce}),
			Peers: []bench.Peer{
				{Name: "chan", Run: channel(func(e placed) bus.Event { return e }, eventCents), Goal: 0.5},
				{Name: "chan-struct", Run: channel(func(e placed) placed { return e }, placedCents)},
			},
		},
		{
			Name:  "keyed-8-workers",
			Ours:  postbus(options{workers: 8, keyed: true}),
			Peers: []bench.Peer{{Name: "watermill-cqrs", Run: watermillCQRSKeyed, Goal: 8}},
		},
		{
			Name:  "fanout-10",
			Ours:  postbus(options{share: true, workers: 1, groups: 10}),
			Peers: []bench.Peer{{Name: "watermill-cqrs", Run: watermillCQRS(10), Goal: 60}},
		},
		{
			Name:   "allocs",
			Unit:   "allocs/msg",
			Ours:   countAllocs(postbus(options{share: true, workers: 1})),
			AtMost: 3,
		},
	},
}

// asaskevich calls the handler within Publish, which is its fastest way.
func asaskevich(ctx context.Context, r *bench.Run) error {
	b := EventBus.New()
	s := newSink(r.N)
	if err := b.Subscribe("orders.placed", func(e placed) { _ = s.handle(e.Cents) }); err != nil {
		return err
	}
	r.Start()
	for i := range r.N {
		b.Publish("orders.placed", event(i))
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	r.Stop(r.N)
	return s.verify()
}

// encodingJSON encodes and decodes on one goroutine, and does nothing else.
func encodingJSON(ctx context.Context, r *bench.Run) error {
	s := newSink(r.N)
	r.Start()
	for i := range r.N {
		payload, err := json.Marshal(event(i))
		if err != nil {
			return err
		}
		var e placed
		if err := json.Unmarshal(payload, &e); err != nil {
			return err
		}
		_ = s.handle(e.Cents)
	}
	if err := s.wait(ctx); err != nil {
		return err
	}
	r.Stop(r.N)
	return s.verify()
}

// channelSize is the buffer of the bare channel, as large as a queue of the memory transport.
const channelSize = 1024

// channel sends each event, packed as T, to one goroutine that calls the handler.
func channel[T any](pack func(placed) T, cents func(T) (int64, bool)) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		s := newSink(r.N)
		events := make(chan T, channelSize)
		failed := make(chan error, 1)
		go func() {
			defer close(failed)
			for e := range events {
				c, ok := cents(e)
				if !ok {
					failed <- fmt.Errorf("unexpected event %T", e)
					return
				}
				_ = s.handle(c)
			}
		}()
		r.Start()
		for i := range r.N {
			events <- pack(event(i))
		}
		err := s.wait(ctx)
		r.Stop(r.N)
		close(events)
		return errors.Join(err, <-failed, s.verify())
	}
}

func eventCents(e bus.Event) (int64, bool) { p, ok := e.(placed); return p.Cents, ok }
func placedCents(p placed) (int64, bool)   { return p.Cents, true }

// countAllocs reports how often a message allocates, in publisher and consumer together, starting and stopping included.
func countAllocs(c bench.Contender) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := c(ctx, r)
		runtime.ReadMemStats(&after)
		r.Report(float64(after.Mallocs-before.Mallocs) / float64(r.N))
		return err
	}
}
