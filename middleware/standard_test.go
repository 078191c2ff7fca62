package middleware_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

func TestStandardOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w, logged := &ward{}, &levels{}
		h := bus.Chain(middleware.Standard(middleware.StandardConfig{
			Log:        middleware.LogConfig{Logger: slog.New(logged)},
			Quarantine: w, Attempts: 1,
			Retry:   middleware.RetryConfig{Attempts: 4},
			Timeout: time.Second,
		})...)(func(ctx context.Context, d *bus.Delivery) error {
			d.Tries++
			if d.Message().CorrelationID != "m1" {
				t.Errorf("correlation id %q, want that of Correlation", d.Message().CorrelationID)
			}
			if d.Tries < 4 {
				<-ctx.Done() // Timeout is inside of Retry, which would stop if this were its context
				return ctx.Err()
			}
			panic(errFlaky) // Recover is inside of all, or this would end the test
		})
		d := delivery()
		d.Message().CorrelationID = ""
		if err := h(t.Context(), d); !bus.IsSetAside(err) || d.Tries != 4 {
			t.Errorf("got %v after %d tries, want a quarantined message after 4", err, d.Tries)
		}
		var p *middleware.PanicError
		if _, causes := w.content(); len(causes) != 1 || !errors.As(causes[0], &p) || !errors.Is(p, errFlaky) {
			t.Errorf("quarantined for %v, want the panic of the last try, once", causes)
		}
		if len(logged.seen) != 2 || logged.seen[0] != slog.LevelError || logged.seen[1] != slog.LevelDebug {
			t.Errorf("lines at %v, want the quarantine's at ERROR and the delivery's at DEBUG", logged.seen)
		}
	})
}

// levels is a slog.Handler that notes the levels of its records.
type levels struct{ seen []slog.Level }

func (l *levels) Enabled(context.Context, slog.Level) bool { return true }
func (l *levels) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *levels) WithGroup(string) slog.Handler            { return l }
func (l *levels) Handle(_ context.Context, r slog.Record) error {
	l.seen = append(l.seen, r.Level)
	return nil
}

func TestStandardZero(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := bus.Chain(middleware.Standard(middleware.StandardConfig{Log: middleware.LogConfig{Logger: quiet}})...)
		d := delivery()
		d.Attempt = 1000
		err := h(func(ctx context.Context, d *bus.Delivery) error {
			if _, limited := ctx.Deadline(); limited {
				t.Error("there is a timeout")
			}
			d.Tries++
			panic("boom")
		})(t.Context(), d)
		var p *middleware.PanicError
		if !errors.As(err, &p) || d.Tries != middleware.DefaultRetryAttempts {
			t.Errorf("got %v after %d tries, want a *PanicError after the default number", err, d.Tries)
		}
	})
}

func standard() bus.Handler {
	return bus.Chain(middleware.Standard(middleware.StandardConfig{
		Log: middleware.LogConfig{Logger: quiet}, Quarantine: &ward{},
	})...)(innermost())
}

func TestStandardAllocates(t *testing.T) { wantNoAllocs(t, standard()) } // not parallel: it counts allocations

// BenchmarkStandard is what the standard chain adds to a message that is handled.
func BenchmarkStandard(b *testing.B) {
	h, d, ctx := standard(), delivery(), b.Context()
	b.ReportAllocs()
	for b.Loop() {
		d.Tries = 0
		if err := h(ctx, d); err != nil {
			b.Fatal(err)
		}
	}
}
