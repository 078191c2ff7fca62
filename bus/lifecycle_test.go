package bus_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

func TestPublishNeedsARunningBus(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	if err := b.Publish(t.Context(), paid{}); !errors.Is(err, bus.ErrNotStarted) {
		t.Errorf("before Start: %v", err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), paid{}); err != nil {
		t.Errorf("while running: %v", err)
	}
	if err := b.Publish(t.Context()); err != nil {
		t.Errorf("of nothing: %v", err)
	}
	if err := b.Start(t.Context()); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("second Start: %v", err)
	}
	for range 2 {
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	if err := b.Publish(t.Context(), paid{}); !errors.Is(err, bus.ErrStopped) {
		t.Errorf("after Stop: %v", err)
	}
	if err := b.Start(t.Context()); !errors.Is(err, bus.ErrStopped) {
		t.Errorf("Start after Stop: %v", err)
	}
}

func TestStopBeforeStart(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	for range 2 {
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	}
	if err := b.Start(t.Context()); !errors.Is(err, bus.ErrStopped) {
		t.Errorf("Start after Stop: %v", err)
	}
}

func TestStopByManyAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, bus.Config{})
		bus.Handle(b, "g", func(context.Context, paid) error { time.Sleep(time.Minute); return nil })
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		publish(t, b, paid{})
		synctest.Wait()
		began := time.Now()
		for range 5 {
			go func() {
				if err := b.Stop(context.Background()); err != nil {
					t.Errorf("Stop: %v", err)
				}
				expect(t, "time to stop", time.Since(began), time.Minute)
			}()
		}
		synctest.Wait()
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Stop(impatient); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop that did not wait for the first: %v", err)
		}
		time.Sleep(time.Hour)
	})
}

func TestStopWhileStartRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		tr.subscribe = func(ctx context.Context, cfg transport.SubscribeConfig) error {
			if cfg.Topic == "parcels" { // the second
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}
		b := newBus(t, bus.Config{Transport: tr})
		bus.Handle(b, "g", func(context.Context, paid) error { return nil })
		bus.Handle(b, "g", func(context.Context, shipped) error { return nil })
		started := make(chan error, 1)
		go func() { started <- b.Start(t.Context()) }()
		synctest.Wait()
		if stats := b.Stats(); len(stats) != 0 {
			t.Errorf("Stats during Start: %v", stats)
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := <-started; !errors.Is(err, bus.ErrStopped) {
			t.Errorf("Start that was stopped: %v", err)
		}
		if !tr.subs[0].isClosed() {
			t.Error("a subscription is open")
		}
		if err := b.Publish(t.Context(), paid{}); !errors.Is(err, bus.ErrStopped) {
			t.Errorf("Publish: %v", err)
		}
	})
}

func TestStopGivesUpOnAStartThatHangs(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{subscribe: func(context.Context, transport.SubscribeConfig) error {
			time.Sleep(time.Hour)
			return nil
		}}
		b := newBus(t, bus.Config{Transport: tr})
		bus.Handle(b, "g", func(context.Context, paid) error { return nil })
		started := make(chan error, 1)
		go func() { started <- b.Start(t.Context()) }()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := b.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Stop: %v", err)
		}
		if err := <-started; !errors.Is(err, bus.ErrStopped) {
			t.Errorf("Start: %v", err)
		}
		if !tr.subs[0].isClosed() {
			t.Error("the subscription is open")
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
	})
}

func TestFailedSubscribeLeavesNothing(t *testing.T) {
	t.Parallel()
	broken := errors.New("no route to host")
	tr := &broker{}
	tr.subscribe = func(_ context.Context, cfg transport.SubscribeConfig) error {
		if cfg.Topic == "parcels" {
			return broken
		}
		return nil
	}
	b := newBus(t, bus.Config{Transport: tr})
	var seen record[paid]
	bus.Handle(b, "g", seen.handle)
	bus.Handle(b, "g", func(context.Context, shipped) error { return nil })
	err := b.Start(t.Context())
	if !errors.Is(err, broken) {
		t.Errorf("Start: %v", err)
	}
	expectError(t, err, `"g"`, `"parcels"`)
	if len(tr.subs) != 1 || !tr.subs[0].isClosed() {
		t.Error("the other subscription is open")
	}
	if err := b.Publish(t.Context(), paid{}); !errors.Is(err, bus.ErrNotStarted) {
		t.Errorf("Publish: %v", err)
	}
	tr.subscribe = nil
	start(t, b) // again
}

func TestRunWithACancelledContext(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	bus.Handle(b, "g", func(context.Context, paid) error { return nil })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := b.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestRunUntilTheContextEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, bus.Config{StopTimeout: time.Hour})
		var seen record[paid]
		bus.Handle(b, "g", func(ctx context.Context, e paid) error {
			time.Sleep(time.Minute)
			return seen.handle(ctx, e)
		})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- b.Run(ctx) }()
		synctest.Wait()
		publish(t, b, paid{1})
		synctest.Wait()
		cancel()
		if err := <-ran; err != nil {
			t.Errorf("Run: %v", err)
		}
		expect(t, "handled", seen.all(), []paid{{1}})
	})
}

func TestRunEndsWhenSomebodyElseStopsTheBus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(t, bus.Config{})
		ran := make(chan error, 1)
		go func() { ran <- b.Run(t.Context()) }()
		synctest.Wait()
		if err := b.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		select {
		case err := <-ran:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		default:
			t.Error("Run goes on")
		}
	})
}
