package memory

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport/memory"
)

// options say what a case differs in.
type options struct {
	share    bool // by reference, instead of encoded and decoded
	workers  int
	delivery bus.DeliveryMode
	groups   int // default: 1
	keyed    bool
}

// postbus publishes one event per call, and waits until all groups have handled all of them.
func postbus(o options) bench.Contender {
	groups := max(o.groups, 1)
	return func(ctx context.Context, r *bench.Run) (err error) {
		t := memory.New(memory.Config{Share: o.share})
		defer func() { err = errors.Join(err, t.Close()) }()
		cfg := bus.Config{Transport: t, Middleware: chain(), Groups: map[string]bus.GroupConfig{}}
		for i := range groups {
			cfg.Groups[groupName(i)] = bus.GroupConfig{Workers: o.workers, Delivery: o.delivery}
		}
		b, err := bus.New(cfg)
		if err != nil {
			return err
		}
		sinks := make([]*sink, groups)
		var keyed *orderly
		for i := range sinks {
			s := newSink(r.N)
			sinks[i] = s
			if o.keyed {
				keyed = &orderly{sink: s}
				bus.Handle(b, groupName(i), func(_ context.Context, e keyedPlaced) error { return keyed.handle(e.Cents) })
			} else {
				bus.Handle(b, groupName(i), func(_ context.Context, e placed) error { return s.handle(e.Cents) })
			}
		}
		if err := b.Start(ctx); err != nil {
			return err
		}
		publish := func(i int) error { return b.Publish(ctx, event(i)) }
		if o.keyed {
			publish = func(i int) error { return b.Publish(ctx, keyedEvent(i)) }
		}
		r.Start()
		err = publishAll(ctx, r.N, publish, sinks)
		r.Stop(r.N * groups)
		err = errors.Join(err, b.Stop(ctx))
		for _, s := range sinks {
			err = errors.Join(err, s.verify())
		}
		if keyed != nil && keyed.disorder.Load() > 0 {
			err = errors.Join(err, fmt.Errorf("%d messages overtook one of the same key", keyed.disorder.Load()))
		}
		return err
	}
}

// publishAll publishes n events and waits until every sink has them.
func publishAll(ctx context.Context, n int, publish func(i int) error, sinks []*sink) error {
	for i := range n {
		if err := publish(i); err != nil {
			return err
		}
	}
	for _, s := range sinks {
		if err := s.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

func groupName(i int) string { return "group-" + strconv.Itoa(i) }
