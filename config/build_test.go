package config_test

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

type placed struct{}

func (placed) EventName() string { return "orders.placed" }

// quarantine counts, by group, what it is given and after how many deliveries.
type quarantine struct {
	mu  sync.Mutex
	got map[string]int
}

func (q *quarantine) Put(_ context.Context, d *bus.Delivery, _ error) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.got[d.Group] = d.Attempt
	return nil
}

func TestEachGroupHasItsOwnChain(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, `
policy: {attempts: 3, delays: [1m], timeout: 1s, retry: {attempts: 1}}
groups:
  patient: {delays: [1h], timeout: 1h}
  hasty: {attempts: 1, retry: {attempts: 4}}
  once: {delivery: at most once, workers: 1, prefetch: 2, keep_order: true, backoff: {min: 1s, max: 2s}}
`)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		tr, err := cfg.OpenTransport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		q := &quarantine{got: map[string]int{}}
		var mu sync.Mutex
		tries, took := map[string]int{}, map[string]time.Duration{}
		busConfig := cfg.Bus(tr, middleware.StandardConfig{Quarantine: q, Log: middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)}})
		b, err := bus.New(busConfig)
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range []string{"patient", "hasty", "once", "other"} {
			bus.Handle(b, group, func(ctx context.Context, _ placed) error {
				deadline, _ := ctx.Deadline()
				mu.Lock()
				defer mu.Unlock()
				tries[group]++
				took[group] = time.Until(deadline)
				return errors.New("no")
			})
		}
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Publish(t.Context(), placed{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		for group, want := range map[string]struct {
			deliveries, tries int
			timeout           time.Duration
		}{"patient": {3, 3, time.Hour}, "hasty": {1, 4, time.Second}, "other": {3, 3, time.Second}} {
			if q.got[group] != want.deliveries || tries[group] != want.tries || took[group] != want.timeout {
				t.Errorf("%s: quarantined at delivery %d after %d tries of %v, want %+v", group, q.got[group], tries[group], took[group], want)
			}
		}
		for _, g := range b.Describe().Groups {
			if c := g.Config; g.Name == "once" && (c.Delivery != bus.AtMostOnce || c.Workers != 1 || c.Prefetch != 2 || !c.KeepOrder ||
				c.MinBackoff != time.Second || c.MaxBackoff != 2*time.Second) {
				t.Errorf("group once has %+v", c)
			}
		}
		if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
			t.Error(err)
		}
	})
}

func TestAKillSwitchIsConfigured(t *testing.T) {
	t.Parallel()
	cfg, err := load(t, "kill_switch: {rate: 1, min_deliveries: 2, window: 1h, pause: 10m}\npolicy: {attempts: 1, retry: {attempts: 1}}\n")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		tr, err := cfg.OpenTransport(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		handled := 0
		b, err := bus.New(cfg.Bus(tr, middleware.StandardConfig{Quarantine: &quarantine{got: map[string]int{}},
			Log: middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)}}))
		if err != nil {
			t.Fatal(err)
		}
		bus.Handle(b, "g", func(context.Context, placed) error {
			mu.Lock()
			defer mu.Unlock()
			handled++
			return errors.New("no")
		})
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for range 100 {
			if err := b.Publish(t.Context(), placed{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second)
		}
		if mu.Lock(); handled != 2 {
			t.Errorf("%d deliveries were handled before the pause was over, want 2", handled)
		}
		mu.Unlock()
		if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
			t.Error(err)
		}
	})
}
