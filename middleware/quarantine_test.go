package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

// ward is a quarantine in memory.
type ward struct {
	mu     sync.Mutex
	fails  error // of Put
	ids    []string
	causes []error
}

func (w *ward) Put(ctx context.Context, d *bus.Delivery, cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fails != nil {
		return w.fails
	}
	w.ids, w.causes = append(w.ids, d.Message().ID), append(w.causes, cause)
	return ctx.Err()
}

func (w *ward) content() ([]string, []error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.ids, w.causes
}

var quiet = slog.New(slog.DiscardHandler)

func TestQuarantined(t *testing.T) {
	t.Parallel()
	permanent, again := bus.Permanent(errFlaky), bus.RetryAfter(time.Hour, errFlaky)
	for name, tc := range map[string]struct {
		attempts  int // configured
		attempt   int // of the delivery
		err       error
		cancelled bool
		untouched bool  // the handler must not run
		cause     error // nil: not put
	}{
		"success":                     {attempt: 1},
		"success at last":             {attempt: 10},
		"permanent at once":           {attempt: 1, err: permanent, cause: permanent},
		"before the last":             {attempt: 9, err: errFlaky},
		"the last":                    {attempt: 10, err: errFlaky, cause: errFlaky},
		"after the last":              {attempt: 11, untouched: true, cause: middleware.ErrAttempts},
		"own number":                  {attempts: 2, attempt: 2, err: errFlaky, cause: errFlaky},
		"below own number":            {attempts: 2, attempt: 1, err: errFlaky},
		"after own number":            {attempts: 2, attempt: 3, untouched: true, cause: middleware.ErrAttempts},
		"one attempt":                 {attempts: 1, attempt: 1, err: errFlaky, cause: errFlaky},
		"retry after":                 {attempt: 9, err: again},
		"retry after has its limit":   {attempt: 10, err: again, cause: again},
		"stopping, the last":          {attempt: 10, err: errFlaky, cancelled: true},
		"stopping, permanent":         {attempt: 1, err: permanent, cancelled: true},
		"another bus that is stopped": {attempt: 10, err: bus.ErrStopped, cause: bus.ErrStopped},
	} {
		for _, fails := range []error{nil, errors.New("disk full")} {
			if fails != nil {
				name += ", store down"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				w, ran := &ward{fails: fails}, false
				d := delivery()
				d.Attempt = tc.attempt
				err := middleware.Quarantined(w, middleware.QuarantineConfig{Attempts: tc.attempts, Logger: quiet})(
					func(context.Context, *bus.Delivery) error {
						ran = true
						if tc.cancelled {
							cancel()
						}
						return tc.err
					})(ctx, d)
				if ran == tc.untouched {
					t.Errorf("the handler ran: %v", ran)
				}
				switch {
				case tc.cause == nil && (err != tc.err || len(w.ids) > 0):
					t.Errorf("got %v and put %v, want the handler's error and nothing put", err, w.ids)
				case tc.cause != nil && fails == nil && (!bus.IsSetAside(err) || len(w.causes) != 1 || !errors.Is(w.causes[0], tc.cause)):
					t.Errorf("got %v and put for %v, want it set aside and put for %v", err, w.causes, tc.cause)
				case tc.cause != nil && fails != nil:
					if !errors.Is(err, fails) || !strings.Contains(err.Error(), tc.cause.Error()) {
						t.Errorf("got %v, want it to tell %v and %v", err, fails, tc.cause)
					}
					if _, asked := bus.RetryDelay(err); asked || bus.IsPermanent(err) {
						t.Errorf("got %v, whose verdict is that of the handler, not of the store", err)
					}
				}
			})
		}
	}
}

func TestQuarantinedWithoutStore(t *testing.T) {
	t.Parallel()
	_, err := bus.New(bus.Config{Middleware: []bus.Middleware{middleware.Quarantined(nil, middleware.QuarantineConfig{})}})
	if !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("got %v, want the bus to refuse it", err)
	}
}

func TestQuarantinedLogs(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	cfg := middleware.QuarantineConfig{Logger: slog.New(slog.NewTextHandler(&out, nil))}
	if err := middleware.Quarantined(&ward{}, cfg)(innermost(bus.Permanent(errFlaky)))(t.Context(), delivery()); !bus.IsSetAside(err) {
		t.Fatal(err)
	}
	for _, want := range []string{"level=ERROR", "quarantine", "id=m1", "group=billing", "error=flaky"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the line lacks %q: %s", want, out.String())
		}
	}
}

// trapdoor is a quarantine whose Put panics.
type trapdoor struct{}

func (trapdoor) Put(context.Context, *bus.Delivery, error) error {
	panic(bus.Permanent(errors.New("no disk")))
}

func TestQuarantinedIfTheStorePanics(t *testing.T) {
	t.Parallel()
	h := middleware.Quarantined(trapdoor{}, middleware.QuarantineConfig{Logger: quiet})(
		func(context.Context, *bus.Delivery) error { return bus.Permanent(errFlaky) })
	err := h(t.Context(), delivery())
	if err == nil || bus.IsPermanent(err) || !strings.Contains(err.Error(), "no disk") || !strings.Contains(err.Error(), "trapdoor") {
		t.Errorf("the outcome is %v; want an error with the panic and its stack, by which the message comes again", err)
	}
}

// gated is a quarantine in which everything waits behind something.
type gated struct {
	ward
	asked int
}

func (g *gated) Gate(bus.Handler) bus.Handler {
	return func(context.Context, *bus.Delivery) error {
		g.asked++
		return bus.SetAside(middleware.ErrParked)
	}
}

func TestWhatWaitsBehindAnotherIsNotTriedAndTripsNoKillSwitch(t *testing.T) {
	t.Parallel()
	store := &gated{}
	k := middleware.NewKillSwitch(middleware.KillSwitchConfig{MinDeliveries: 2, Logger: quiet})
	h := bus.Chain(k.Middleware, middleware.Quarantined(store, middleware.QuarantineConfig{Logger: quiet}))(
		func(context.Context, *bus.Delivery) error { t.Error("it was tried"); return nil })
	for range 5 {
		d := delivery()
		d.Attempt = 100 // the count of tries is not asked either
		if err := h(t.Context(), d); !bus.IsSetAside(err) || !errors.Is(err, middleware.ErrParked) {
			t.Fatalf("got %v, want ErrParked", err)
		}
	}
	if ids, _ := store.content(); len(ids) > 0 || store.asked != 5 || len(k.Paused()) > 0 {
		t.Errorf("put %v, asked %d times, paused %v", ids, store.asked, k.Paused())
	}
}
