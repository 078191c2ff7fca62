package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

type placed struct{ Order string }

func (placed) EventName() string { return "orders.placed" }

type paid struct{ Order string }

func (paid) EventName() string { return "payments.paid" }

// world is a running bus with one group, "billing", and what it has done.
type world struct {
	*bus.Bus
	transport *memory.Transport
	ward      ward
	tries     atomic.Int32
}

// run starts a bus; it is called in a bubble of synctest. The handler is given the number of its try.
func run(t *testing.T, w *world, chain []bus.Middleware, cfg bus.GroupConfig, handle func(ctx context.Context, try int) error) {
	t.Helper()
	w.transport = memory.New(memory.Config{})
	var err error
	w.Bus, err = bus.New(bus.Config{
		Transport: w.transport, Middleware: chain, Logger: quiet, Groups: map[string]bus.GroupConfig{"billing": cfg},
	})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(w.Bus, "billing", func(ctx context.Context, _ placed) error { return handle(ctx, int(w.tries.Add(1))) })
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(context.Background()); err != nil {
			t.Error(err)
		}
		if err := w.transport.Close(); err != nil {
			t.Error(err)
		}
	})
}

func (w *world) standard(cfg middleware.StandardConfig) []bus.Middleware {
	cfg.Quarantine, cfg.Log.Logger = &w.ward, quiet
	return middleware.Standard(cfg)
}

// settle publishes an order, and waits until there is nothing left to do.
func (w *world) settle(t *testing.T) {
	t.Helper()
	if err := w.Publish(t.Context(), placed{"o1"}); err != nil {
		t.Fatal(err)
	}
	if err := w.transport.WaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// What a handler can do to a message, and how often it is tried until it is done or in quarantine.
func TestStandardOnABus(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handle func(ctx context.Context, try int) error
		tries  int32
		cause  error  // of the quarantine
		says   string // in the text of the cause
	}{
		"success": {handle: func(context.Context, int) error { return nil }, tries: 1},
		"success with the last try": {handle: func(_ context.Context, try int) error {
			if try < 6 {
				return errFlaky
			}
			return nil
		}, tries: 6},
		"error":              {handle: func(context.Context, int) error { return errFlaky }, tries: 6, cause: errFlaky},
		"permanent":          {handle: func(context.Context, int) error { return bus.Permanent(errFlaky) }, tries: 1, cause: errFlaky},
		"panic":              {handle: func(context.Context, int) error { panic(errFlaky) }, tries: 6, cause: errFlaky, says: "bus_test.go"},
		"goexit":             {handle: func(context.Context, int) error { runtime.Goexit(); return nil }, tries: 6, cause: bus.ErrGoexit, says: "bus_test.go"},
		"retry after, short": {handle: func(context.Context, int) error { return bus.RetryAfter(time.Second, errFlaky) }, tries: 6, cause: errFlaky},
		"retry after, long":  {handle: func(context.Context, int) error { return bus.RetryAfter(time.Hour, errFlaky) }, tries: 2, cause: errFlaky},
		"timeout":            {handle: func(ctx context.Context, _ int) error { <-ctx.Done(); return ctx.Err() }, tries: 6, cause: context.DeadlineExceeded, says: "10s"},
		"each try another": {handle: func(_ context.Context, try int) error {
			switch try {
			case 1:
				runtime.Goexit()
			case 2:
				panic("boom")
			case 3:
				return errFlaky
			}
			return nil
		}, tries: 4},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				run(t, w, w.standard(middleware.StandardConfig{Attempts: 2, Timeout: 10 * time.Second}), bus.GroupConfig{}, tc.handle)
				w.settle(t)
				if got := w.tries.Load(); got != tc.tries {
					t.Errorf("tried %d times, want %d", got, tc.tries)
				}
				_, causes := w.ward.content()
				if tc.cause == nil {
					if len(causes) > 0 {
						t.Errorf("quarantined for %v", causes)
					}
					return
				}
				if len(causes) != 1 || !errors.Is(causes[0], tc.cause) || !strings.Contains(fmt.Sprint(causes), tc.says) {
					t.Errorf("quarantined for %v, want %v once, with %q", causes, tc.cause, tc.says)
				}
			})
		})
	}
}

func TestNothingIsAckedThatIsNotInQuarantine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{ward: ward{fails: errors.New("disk full")}}
		run(t, w, w.standard(middleware.StandardConfig{}), bus.GroupConfig{}, func(context.Context, int) error { return bus.Permanent(errFlaky) })
		if err := w.Publish(t.Context(), placed{"o1"}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Hour)
		if n := w.transport.Pending(); n != 1 {
			t.Fatalf("%d messages pending while the store is down, want 1", n)
		}
		w.ward.mu.Lock()
		w.ward.fails = nil
		w.ward.mu.Unlock()
		if err := w.transport.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if ids, _ := w.ward.content(); len(ids) != 1 {
			t.Errorf("quarantined %v, want the message once", ids)
		}
		if got := w.tries.Load(); got != middleware.DefaultQuarantineAttempts {
			t.Errorf("tried %d times while the store was down, want no more than the attempts", got)
		}
	})
}

// A message that has cost its attempts in processes that are gone is put aside untried.
func TestPoisonIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		run(t, w, w.standard(middleware.StandardConfig{Attempts: 3}), bus.GroupConfig{}, func(context.Context, int) error { return nil })
		poison := transport.Message{ID: "p1", Name: "orders.placed", Attempts: 3, Payload: []byte(`{}`)}
		if err := w.transport.Publish(t.Context(), "orders", []transport.Message{poison}); err != nil {
			t.Fatal(err)
		}
		if err := w.transport.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, causes := w.ward.content(); w.tries.Load() != 0 || len(causes) != 1 || !errors.Is(causes[0], middleware.ErrAttempts) {
			t.Errorf("tried %d times, quarantined for %v; want 0, ErrAttempts", w.tries.Load(), causes)
		}
	})
}

// Middleware that ends its goroutine before the handler is reached, or after, does not keep the bus spinning.
func TestMiddlewareThatEndsItsGoroutine(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]bool{"before the handler": true, "after the handler": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				exits := func(next bus.Handler) bus.Handler {
					return func(ctx context.Context, d *bus.Delivery) error {
						if !before {
							_ = next(ctx, d)
						}
						runtime.Goexit()
						return nil
					}
				}
				run(t, w, w.standard(middleware.StandardConfig{Attempts: 3}), bus.GroupConfig{Middleware: []bus.Middleware{exits}},
					func(context.Context, int) error { return nil })
				w.settle(t)
				if _, causes := w.ward.content(); len(causes) != 1 {
					t.Errorf("quarantined for %v, want once", causes)
				}
			})
		})
	}
}

// The correlation id of a foreign message reaches what the handler publishes.
func TestCorrelationOnABus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		run(t, w, w.standard(middleware.StandardConfig{}), bus.GroupConfig{}, func(ctx context.Context, _ int) error {
			return w.Publish(ctx, paid{"o1"})
		})
		sub, err := w.transport.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "payments", Group: "audit"})
		if err != nil {
			t.Fatal(err)
		}
		foreign := transport.Message{ID: "f1", Name: "orders.placed", Payload: []byte(`{}`), Metadata: map[string]string{"correlation_id": "w1"}}
		if err := w.transport.Publish(t.Context(), "orders", []transport.Message{foreign}); err != nil {
			t.Fatal(err)
		}
		got, err := sub.Receive(t.Context(), 1)
		if err != nil || len(got) != 1 || got[0].CorrelationID != "w1" || got[0].CausationID != "f1" {
			t.Errorf("got %+v (%v), want correlation id w1 and causation id f1", got, err)
		}
	})
}
