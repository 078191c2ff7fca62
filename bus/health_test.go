package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

var errAway = errors.New("the server is away")

// watched is a transport that is told how it fares.
type watched struct {
	*memory.Transport
	away   atomic.Bool // neither answers, nor receives and settles
	status []transport.GroupStatus
}

func (w *watched) err() error {
	if w.away.Load() {
		return errAway
	}
	return nil
}

func (w *watched) Ping(context.Context) error { return w.err() }

func (w *watched) Status(context.Context) ([]transport.GroupStatus, error) { return w.status, w.err() }

func (w *watched) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	s, err := w.Transport.Subscribe(ctx, cfg)
	return watchedSubscription{s, w}, err
}

type watchedSubscription struct {
	transport.Subscription
	w *watched
}

func (s watchedSubscription) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	if err := s.w.err(); err != nil {
		return nil, err
	}
	return s.Subscription.Receive(ctx, max)
}

func (s watchedSubscription) Settle(ctx context.Context, settlements []transport.Settlement) error {
	if err := s.w.err(); err != nil {
		return err
	}
	return s.Subscription.Settle(ctx, settlements)
}

func TestHealth(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &watched{Transport: memory.New(memory.Config{}), status: []transport.GroupStatus{
			{Topic: "orders", Group: "billing", Lag: 7, LagAge: time.Second, StalledBy: 42, StalledFor: time.Minute},
			{Topic: "elsewhere", Group: "billing", StalledBy: 43}, // a former topic of the group
			{Topic: "orders", Group: "of another program", StalledBy: 44},
		}}
		defer w.Close()
		b := newBus(t, bus.Config{Transport: w})
		goOn := make(chan struct{})
		bus.Handle(b, "billing", func(context.Context, paid) error { <-goOn; return nil })
		bus.Handle(b, "shipping", func(context.Context, shipped) error { return nil })

		expectError(t, b.Ready(t.Context()), "bus: not started")
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(t, b, paid{1})
		synctest.Wait()
		h := b.Health(t.Context())
		if h.State != "running" || h.Failed != nil || h.Transport != nil || h.Ready() != nil || b.Ready(t.Context()) != nil || len(h.Groups) != 2 {
			t.Fatalf("got %+v", h)
		}
		billing := h.Groups[0]
		if billing.Name != "billing" || billing.Trouble != nil || billing.InFlight != 1 || len(billing.Topics) != 1 || billing.Topics[0] != w.status[0] {
			t.Errorf("billing is %+v", billing)
		}
		if c := h.Concerns(); len(c) != 1 || !strings.Contains(c[0].Error(), "of process 42, holds messages back for 1m0s") {
			t.Errorf("concerns: %v", c)
		}

		w.away.Store(true)
		close(goOn) // billing cannot settle
		publish(t, b, shipped{1})
		time.Sleep(time.Second) // shipping cannot receive any more
		err := b.Ready(t.Context())
		expectError(t, err, "bus: transport: the server is away", `group "billing": topic "orders": `, `group "shipping": topic "parcels"`)
		if h := b.Health(t.Context()); !errors.Is(h.Ready(), errAway) || len(h.Groups[0].Topics) != 0 || b.Err() != nil {
			t.Errorf("got %+v", h)
		}
		w.away.Store(false)
		time.Sleep(10 * time.Minute) // shipping waits for a message
		if err := b.Ready(t.Context()); err != nil {
			t.Errorf("after the outage: %v", err)
		}

		if err := b.Stop(context.Background()); err != nil {
			t.Fatal(err)
		}
		expectError(t, b.Ready(t.Context()), "bus: stopped")
	})
}

func TestHealthOfABusThatFailed(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{})
	b := newBus(t, bus.Config{Transport: tr})
	bus.Handle(b, "g", handlePaid)
	start(t, b)
	_ = tr.Close()
	<-b.Failed()
	if h := b.Health(t.Context()); !errors.Is(h.Failed, transport.ErrClosed) || !errors.Is(h.Ready(), transport.ErrClosed) {
		t.Errorf("got %+v", h)
	}
}

func TestHealthWhileStoppingAndWhileMisconfigured(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	inside, goOn := make(chan struct{}), make(chan struct{})
	bus.Handle(b, "g", func(context.Context, paid) error { close(inside); <-goOn; return nil })
	start(t, b)
	publish(t, b, paid{1})
	<-inside
	ended := make(chan error)
	go func() { ended <- b.Stop(context.Background()) }()
	for deadline := time.Now().Add(time.Minute); b.State() == "running"; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it does not stop")
		}
	}
	expectError(t, b.Ready(t.Context()), "bus: stopping")
	close(goOn)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	none, err := bus.New(bus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	expectError(t, none.Health(t.Context()).Ready(), "bus: not started")
}

func TestSetPausedByMiddleware(t *testing.T) {
	t.Parallel()
	bus.SetPaused(t.Context(), errAway) // outside of a bus: nothing happens
	handled := make(chan struct{})
	b := run(t, bus.Config{Middleware: []bus.Middleware{func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			err := next(ctx, d)
			bus.SetPaused(ctx, err)
			handled <- struct{}{}
			return bus.SetAside(err)
		}
	}}}, func(b *bus.Bus) {
		bus.Handle(b, "g", func(_ context.Context, e paid) error {
			if e.N < 0 {
				return fmt.Errorf("%w: %d", errAway, e.N)
			}
			return nil
		})
		bus.Handle(b, "other", func(context.Context, shipped) error { return nil })
	})
	publish(t, b, paid{-1})
	<-handled
	h := b.Health(t.Context())
	if !errors.Is(h.Groups[0].Paused, errAway) || h.Groups[1].Paused != nil {
		t.Errorf("got %+v", h)
	}
	publish(t, b, paid{1})
	<-handled
	if h := b.Health(t.Context()); h.Groups[0].Paused != nil {
		t.Errorf("got %+v", h)
	}
}
