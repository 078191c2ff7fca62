package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestDelayedRetry(t *testing.T) {
	t.Parallel()
	minutes := []time.Duration{time.Minute, 10 * time.Minute, time.Hour}
	again, permanent, aside := bus.RetryAfter(time.Second, errFlaky), bus.Permanent(errFlaky), bus.SetAside(errFlaky)
	for name, tc := range map[string]struct {
		delays    []time.Duration
		attempts  int // configured
		attempt   int
		err       error
		cancelled bool
		delay     time.Duration // 0: the error as it is
	}{
		"success":            {delays: minutes, attempt: 1},
		"first":              {delays: minutes, attempt: 1, err: errFlaky, delay: time.Minute},
		"second":             {delays: minutes, attempt: 2, err: errFlaky, delay: 10 * time.Minute},
		"third":              {delays: minutes, attempt: 3, err: errFlaky, delay: time.Hour},
		"the last goes on":   {delays: minutes, attempt: 17, err: errFlaky, delay: time.Hour},
		"last but one":       {delays: minutes, attempts: 3, attempt: 2, err: errFlaky, delay: 10 * time.Minute},
		"the last attempt":   {delays: minutes, attempts: 3, attempt: 3, err: errFlaky},
		"no delays":          {attempt: 1, err: errFlaky},
		"a delivery by hand": {delays: minutes, attempt: 0, err: errFlaky, delay: time.Minute},
		"endless":            {delays: []time.Duration{math.MaxInt64}, attempt: 1, err: errFlaky, delay: math.MaxInt64 / 2},
		"permanent":          {delays: minutes, attempt: 1, err: permanent},
		"set aside":          {delays: minutes, attempt: 1, err: aside},
		"asks itself":        {delays: minutes, attempt: 1, err: again},
		"interrupted":        {delays: minutes, attempt: 1, err: errFlaky, cancelled: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			d := delivery()
			d.Attempt = tc.attempt
			delays := slices.Clone(tc.delays)
			m := middleware.DelayedRetry(middleware.DelayedRetryConfig{Delays: delays, Attempts: tc.attempts})
			clear(delays) // the config is copied
			err := m(func(context.Context, *bus.Delivery) error {
				if tc.cancelled {
					cancel()
				}
				return tc.err
			})(ctx, d)
			if tc.delay == 0 {
				if err != tc.err {
					t.Errorf("got %v, want %v as it is", err, tc.err)
				}
				return
			}
			delay, asked := bus.RetryDelay(err)
			if !errors.Is(err, tc.err) || !asked || delay < tc.delay || delay > tc.delay+tc.delay/10 {
				t.Errorf("got %v (again after %v), want %v again after %v and up to a tenth", err, delay, tc.err, tc.delay)
			}
		})
	}
}

func TestDelayedRetryJitters(t *testing.T) {
	t.Parallel()
	h := middleware.DelayedRetry(middleware.DelayedRetryConfig{Delays: []time.Duration{time.Hour}})(innermost(errFlaky))
	seen := map[time.Duration]bool{}
	for range 100 {
		delay, _ := bus.RetryDelay(h(t.Context(), delivery()))
		seen[delay] = true
	}
	if len(seen) < 90 {
		t.Errorf("%d different pauses of 100, want them spread", len(seen))
	}
}

// kept is an event with a key.
type kept struct {
	Key string
	N   int
}

func (kept) EventName() string  { return "parcels.kept" }
func (k kept) EventKey() string { return k.Key }

// journal is what a handler has seen, by key.
type journal struct {
	mu   sync.Mutex
	seen map[string][]string
}

func (j *journal) add(key, line string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.seen == nil {
		j.seen = map[string][]string{}
	}
	j.seen[key] = append(j.seen[key], line)
}

func (j *journal) of(key string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return strings.Join(j.seen[key], " ")
}

// runDelayed publishes three messages of key a, the first of which fails until its third delivery, and two of key b, and
// waits until all are done. None is handled before the bus has all of them.
func runDelayed(t *testing.T, tr transport.Transport, delays []time.Duration, cfg bus.GroupConfig, wait func(done func() bool)) *journal {
	t.Helper()
	j := &journal{}
	cfg.Workers = 4
	b, err := bus.New(bus.Config{Transport: tr, Logger: quiet, Groups: map[string]bus.GroupConfig{"g": cfg},
		Middleware: middleware.Standard(middleware.StandardConfig{
			Log: middleware.LogConfig{Logger: quiet}, Quarantine: &ward{}, Delays: delays, Retry: middleware.RetryConfig{Attempts: 1},
		})})
	if err != nil {
		t.Fatal(err)
	}
	atHand := make(chan struct{})
	bus.Handle(b, "g", func(ctx context.Context, e kept) error {
		<-atHand
		d, _ := bus.DeliveryFrom(ctx)
		j.add(e.Key, fmt.Sprintf("%d/%d", e.N, d.Attempt))
		if e.Key == "a" && e.N == 1 && d.Attempt < 3 {
			return errFlaky
		}
		return nil
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, e := range []kept{{"a", 1}, {"a", 2}, {"b", 1}, {"a", 3}, {"b", 2}} {
		if err := b.Publish(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(time.Minute); b.Stats()["g"].InFlight < 5 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	close(atHand)
	wait(func() bool { return len(strings.Fields(j.of("a"))) == 5 && len(strings.Fields(j.of("b"))) == 2 })
	if err := b.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	return j
}

// What a delayed retry does to order: later messages of the key overtake, unless KeepOrder has them wait; other keys flow.
func TestDelayedRetryAndOrder(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		keep bool
		want string
	}{
		"overtaken":  {want: "1/1 2/1 3/1 1/2 1/3"},
		"keep order": {keep: true, want: "1/1 1/2 1/3 2/1 3/1"},
	} {
		check := func(t *testing.T, j *journal) {
			if got := j.of("a"); got != tc.want {
				t.Errorf("the failing key's deliveries are %s, want %s", got, tc.want)
			}
			if got := j.of("b"); got != "1/1 2/1" {
				t.Errorf("the other key's deliveries are %s", got)
			}
		}
		cfg := bus.GroupConfig{KeepOrder: tc.keep}
		t.Run(name+", memory", func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := memory.New(memory.Config{})
				defer tr.Close()
				check(t, runDelayed(t, tr, []time.Duration{time.Hour, 2 * time.Hour}, cfg, func(func() bool) {
					time.Sleep(24 * time.Hour)
				}))
			})
		})
		t.Run(name+", sqlite", func(t *testing.T) {
			t.Parallel()
			tr, err := transport.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "d.db")+"?synchronous=off&poll_interval=20ms")
			if err != nil {
				t.Fatal(err)
			}
			defer tr.Close()
			delay := 1100 * time.Millisecond // longer than what waits in its place in any case
			check(t, runDelayed(t, tr, []time.Duration{delay, delay}, cfg, func(done func() bool) {
				for end := time.Now().Add(time.Minute); !done() && time.Now().Before(end); {
					time.Sleep(20 * time.Millisecond)
				}
			}))
		})
	}
}

// After the last delay the message goes to quarantine, whose attempts follow from the delays.
func TestDelaysEndInQuarantine(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg   middleware.StandardConfig
		times []time.Duration // of the tries, to the hour
	}{
		"by the delays":  {middleware.StandardConfig{Delays: []time.Duration{time.Hour, 3 * time.Hour}}, []time.Duration{0, time.Hour, 4 * time.Hour}},
		"fewer attempts": {middleware.StandardConfig{Delays: []time.Duration{time.Hour, 3 * time.Hour}, Attempts: 2}, []time.Duration{0, time.Hour}},
		"more attempts":  {middleware.StandardConfig{Delays: []time.Duration{time.Hour}, Attempts: 4}, []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour}},
		"never by rule": {middleware.StandardConfig{Delays: []time.Duration{time.Hour}, Retry: middleware.RetryConfig{
			Rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Never)}}}, []time.Duration{0}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, began, times := &world{}, time.Now(), []time.Duration(nil)
				if tc.cfg.Retry.Attempts == 0 {
					tc.cfg.Retry.Attempts = 1
				}
				run(t, w, w.standard(tc.cfg), bus.GroupConfig{}, func(context.Context, int) error {
					times = append(times, time.Since(began).Truncate(time.Hour))
					return errFlaky
				})
				w.settle(t)
				if !slices.Equal(times, tc.times) {
					t.Errorf("tried at %v, want %v", times, tc.times)
				}
				_, causes := w.ward.content()
				if len(causes) != 1 || !errors.Is(causes[0], errFlaky) || strings.Contains(causes[0].Error(), "again") {
					t.Errorf("quarantined for %v, want the plain error once", causes)
				}
			})
		})
	}
}

func TestDelayedRetryAllocates(t *testing.T) { // not parallel: it counts allocations
	wantNoAllocs(t, middleware.DelayedRetry(middleware.DelayedRetryConfig{Delays: []time.Duration{time.Hour}})(innermost()))
}
