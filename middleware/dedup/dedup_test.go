package dedup_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/dedup"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

var errBusy = errors.New("busy")

func TestHandledOnceByEachGroup(t *testing.T) {
	everywhere(t, func(t *testing.T, cfg dedup.Config) {
		var calls []string
		fail := true
		chain := dedup.New(cfg).Middleware(func(_ context.Context, d *bus.Delivery) error {
			calls = append(calls, d.Group+" "+d.Message().ID)
			if fail {
				return errBusy
			}
			return nil
		})
		if err := deliver(t.Context(), chain, "billing", "m-1"); !errors.Is(err, errBusy) {
			t.Fatalf("got %v", err)
		}
		fail = false // what failed was not recorded
		long := strings.Repeat("é", 300)
		for _, id := range []string{"m-1", "m-1", "M-1", "m-2", long, long + "e", long, "m-2"} {
			must(t, deliver(t.Context(), chain, "billing", id))
		}
		must(t, deliver(t.Context(), chain, "shipping", "m-1"))
		want := []string{"billing m-1", "billing m-1", "billing M-1", "billing m-2", "billing " + long, "billing " + long + "e", "shipping m-1"}
		if strings.Join(calls, "\n") != strings.Join(want, "\n") {
			t.Errorf("got %q, want %q", calls, want)
		}
	})
}

func TestAHandlerThatDoesNotReturnIsNotRecorded(t *testing.T) {
	everywhere(t, func(t *testing.T, cfg dedup.Config) {
		calls := 0
		chain := dedup.New(cfg).Middleware(func(context.Context, *bus.Delivery) error {
			switch calls++; calls {
			case 1:
				panic("poison")
			case 2:
				runtime.Goexit()
			}
			return nil
		})
		for range 4 {
			done := make(chan struct{})
			go func() {
				defer close(done)
				defer func() { _ = recover() }()
				_ = deliver(t.Context(), chain, "billing", "m-1")
			}()
			<-done
		}
		if calls != 3 {
			t.Errorf("entered %d times, want 3: a panic, an exit, a success", calls)
		}
	})
}

type placed struct {
	Order string `json:"order"`
}

func (placed) EventName() string { return "orders.placed" }

func TestAKeyOfTheEvent(t *testing.T) {
	everywhere(t, func(t *testing.T, cfg dedup.Config) {
		cfg.Key = dedup.ByEvent(func(e placed) string { return e.Order })
		var calls []string
		chain := dedup.New(cfg).Middleware(func(_ context.Context, d *bus.Delivery) error {
			calls = append(calls, d.Message().ID)
			return nil
		})
		for _, m := range []*transport.Message{
			{ID: "1", Name: "orders.placed", Payload: []byte(`{"order":"o-1"}`)},
			{ID: "2", Name: "orders.placed", Payload: []byte(`{"order":"o-1"}`)},             // the same order
			{ID: "3", Name: "orders.placed", Value: placed{"o-1"}},                           // by reference
			{ID: "o-1", Name: "orders.paid", Payload: []byte(`{"order":"o-1"}`)},             // the id of this is no key of that
			{ID: "4", Name: "orders.placed", Payload: []byte(`{`)},                           // for the handler to refuse
			{ID: "5", Name: "orders.placed", Version: 2, Payload: []byte(`{"order":"o-1"}`)}, // who knows what it means
			{ID: "6", Name: "orders.placed", Payload: []byte(`{"order":""}`)},                // no key
			{ID: "7", Name: "orders.placed", Payload: []byte(`{"order":""}`)},
			{ID: "7", Name: "orders.placed", Payload: []byte(`{"order":""}`)},
		} {
			must(t, chain(t.Context(), bus.NewDelivery(m, "orders", "billing", 1)))
		}
		if got := strings.Join(calls, " "); got != "1 o-1 4 5 6 7" {
			t.Errorf("handled %s", got)
		}
	})
}

func TestTheSecondWaitsForTheFirst(t *testing.T) {
	everywhere(t, func(t *testing.T, cfg dedup.Config) {
		for _, outcome := range []error{nil, errBusy} {
			var entered atomic.Int32
			first, goOn := make(chan struct{}), make(chan struct{})
			handle := func(context.Context, *bus.Delivery) error {
				if entered.Add(1) == 1 {
					close(first)
					<-goOn
					return outcome
				}
				return nil
			}
			// In the store, the second is of another instance.
			one := dedup.New(cfg).Middleware(handle)
			two := one
			if cfg.Store != nil {
				two = dedup.New(cfg).Middleware(handle)
			}
			id := "m-0"
			want := int32(1)
			if outcome != nil {
				id, want = "m-1", 2
			}
			results := make(chan error, 2)
			go func() { results <- deliver(t.Context(), one, "billing", id) }()
			<-first
			go func() { results <- deliver(t.Context(), two, "billing", id) }()
			select {
			case err := <-results:
				t.Fatalf("returned %v while the first was at work", err)
			case <-time.After(100 * time.Millisecond): // cannot be too short, only too lenient
			}
			close(goOn)
			if err := errors.Join(<-results, <-results); !errors.Is(err, outcome) {
				t.Errorf("got %v, want %v", err, outcome)
			}
			if got := entered.Load(); got != want {
				t.Errorf("entered %d times, want %d, after %v", got, want, outcome)
			}
		}
	})
}

func TestOneThatWaitsGivesWay(t *testing.T) {
	everywhere(t, func(t *testing.T, cfg dedup.Config) {
		first, goOn := make(chan struct{}), make(chan struct{})
		var entered atomic.Int32
		chain := dedup.New(cfg).Middleware(func(context.Context, *bus.Delivery) error {
			entered.Add(1)
			close(first)
			<-goOn
			return nil
		})
		result := make(chan error, 1)
		go func() { result <- deliver(t.Context(), chain, "billing", "m-1") }()
		<-first
		ctx, cancel := context.WithCancel(t.Context())
		second := make(chan error, 1)
		go func() { second <- deliver(ctx, chain, "billing", "m-1") }()
		cancel()
		if err := <-second; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(goOn)
		must(t, <-result)
		if entered.Load() != 1 {
			t.Errorf("entered %d times", entered.Load())
		}
	})
}

func TestKeysAreForgotten(t *testing.T) {
	everywhere(t, func(t *testing.T, cfg dedup.Config) {
		cfg.Retention = 50 * time.Millisecond
		calls := 0
		chain := dedup.New(cfg).Middleware(func(context.Context, *bus.Delivery) error { calls++; return nil })
		eventually(t, "handled again", func() bool {
			must(t, deliver(t.Context(), chain, "billing", "m-1"))
			return calls > 2
		})
		if cfg.Store == nil {
			return
		}
		// What is not asked for again is removed.
		eventually(t, "removed", func() bool {
			must(t, deliver(t.Context(), chain, "billing", "m-2"))
			return count(t, cfg.Store, "1 = 1") == 1
		})
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	calls := map[string]int{}
	chain := dedup.New(dedup.Config{Max: 3, Retention: -1, Logger: quiet}).Middleware(func(_ context.Context, d *bus.Delivery) error {
		calls[d.Message().ID]++
		return nil
	})
	for _, id := range []string{"a", "b", "c", "a", "b", "d", "b", "c", "a", "a"} { // "d" has "a" forgotten
		must(t, deliver(t.Context(), chain, "billing", id))
	}
	if calls["a"] != 2 || calls["b"] != 1 || calls["c"] != 1 || calls["d"] != 1 {
		t.Errorf("got %v", calls)
	}
}

func TestMemoryIsKeptAsLongAsSaid(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		chain := dedup.New(dedup.Config{Retention: time.Hour, Logger: quiet}).Middleware(func(context.Context, *bus.Delivery) error { calls++; return nil })
		for _, pause := range []time.Duration{0, 59 * time.Minute, time.Minute, 59 * time.Minute} {
			time.Sleep(pause)
			must(t, deliver(t.Context(), chain, "billing", "m-1"))
		}
		if calls != 2 {
			t.Errorf("handled %d times, want again after an hour", calls)
		}
	})
}

// TestMemoryAgainstAModel compares what is known with a plain list, over long random histories.
func TestMemoryAgainstAModel(t *testing.T) {
	t.Parallel()
	for _, most := range []int{1, 7, 100} {
		synctest.Test(t, func(t *testing.T) {
			const retention = time.Minute
			type recorded struct {
				id string
				at time.Time
			}
			var model []recorded
			handled := false
			chain := dedup.New(dedup.Config{Max: most, Retention: retention, Logger: quiet}).Middleware(func(context.Context, *bus.Delivery) error {
				handled = true
				return nil
			})
			for step := range 5000 {
				time.Sleep(rand.N(2 * retention / time.Duration(1+rand.IntN(200))))
				id := strconv.Itoa(rand.IntN(2 * most))
				known := slices.ContainsFunc(model, func(r recorded) bool { return r.id == id && time.Since(r.at) < retention })
				handled = false
				must(t, deliver(t.Context(), chain, "billing", id))
				if handled == known {
					t.Fatalf("step %d: handled %v, although it was known: %v", step, handled, known)
				}
				if handled {
					if model = append(model, recorded{id, time.Now()}); len(model) > most {
						model = model[1:]
					}
				}
			}
		})
	}
}

// TestInABus has a publisher that repeats itself, and a handler that fails at first.
func TestInABus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		d := dedup.New(dedup.Config{Logger: slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))})
		must(t, d.Prepare(t.Context()))
		tr := memory.New(memory.Config{})
		defer tr.Close()
		b, err := bus.New(bus.Config{
			Transport: tr, Logger: quiet,
			Middleware: middleware.Standard(middleware.StandardConfig{Dedup: d.Middleware, Log: middleware.LogConfig{Logger: quiet}}),
		})
		must(t, err)
		var calls atomic.Int32
		bus.Handle(b, "billing", func(context.Context, placed) error {
			if calls.Add(1) <= 5 {
				return errBusy
			}
			time.Sleep(time.Second)
			return nil
		})
		must(t, b.Start(t.Context()))
		for range 5 { // several workers get them at once
			must(t, b.Publish(t.Context(), bus.WithID("m-1", placed{"o-1"})))
		}
		time.Sleep(time.Minute)
		must(t, b.Stop(context.Background()))
		if s := b.Stats()["billing"]; calls.Load() != 6 || s.Handled != 5 {
			t.Errorf("handled %d times, %+v", calls.Load(), s)
		}
		if n := strings.Count(log.String(), "passed over"); n != 4 {
			t.Errorf("%d lines say that a message was passed over, want 4:\n%s", n, &log)
		}
	})
}

func TestStopDoesNotWaitForWhoWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		defer tr.Close()
		b, err := bus.New(bus.Config{Transport: tr, Logger: quiet, Middleware: []bus.Middleware{dedup.New(dedup.Config{Logger: quiet}).Middleware}})
		must(t, err)
		bus.Handle(b, "billing", func(context.Context, placed) error { time.Sleep(time.Second); return errBusy })
		must(t, b.Start(t.Context()))
		must(t, b.Publish(t.Context(), bus.WithID("m-1", placed{"o-1"}), bus.WithID("m-1", placed{"o-1"})))
		time.Sleep(time.Millisecond)
		must(t, b.Stop(context.Background()))
		if s := b.Stats()["billing"]; s.Failed != 1 {
			t.Errorf("%+v, want one that failed, and one that was given back", s)
		}
	})
}
