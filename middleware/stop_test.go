package middleware_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
)

// A stop in the middle of a wait ends it at once, and the message comes to the next bus with the same attempt.
func TestStopWhileWaiting(t *testing.T) {
	t.Parallel()
	hour := bus.RetryAfter(time.Hour, errFlaky)
	for name, tc := range map[string]struct {
		inner []bus.Middleware // inside of the standard chain
		err   error
		tries int32
	}{
		"retry":    {err: hour, tries: 1},
		"throttle": {inner: []bus.Middleware{used(middleware.Throttle(middleware.ThrottleConfig{Rate: 1. / 3600}))}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := &world{}
				chain := w.standard(middleware.StandardConfig{Attempts: 1, Retry: middleware.RetryConfig{MaxDelay: 24 * time.Hour}})
				run(t, w, chain, bus.GroupConfig{Middleware: tc.inner}, func(context.Context, int) error { return tc.err })
				if err := w.Publish(t.Context(), placed{"o1"}); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Minute)
				begin := time.Now()
				if err := w.Stop(t.Context()); err != nil || time.Since(begin) > 0 {
					t.Errorf("Stop returned %v after %v, want at once", err, time.Since(begin))
				}
				if got := w.tries.Load(); got != tc.tries {
					t.Errorf("tried %d times, want %d", got, tc.tries)
				}
				if ids, _ := w.ward.content(); len(ids) > 0 {
					t.Errorf("quarantined %v", ids)
				}
				w.wantAgain(t)
			})
		})
	}
}

// used lets one pass, so that the next has to wait.
func used(m bus.Middleware) bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		_ = m(innermost())(context.Background(), delivery())
		return m(next)
	}
}

// A handler that a stop cancels has not used up an attempt.
func TestStopWhileHandling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		run(t, w, w.standard(middleware.StandardConfig{Attempts: 1}), bus.GroupConfig{}, func(ctx context.Context, _ int) error {
			<-ctx.Done()
			return bus.Permanent(ctx.Err())
		})
		if err := w.Publish(t.Context(), placed{"o1"}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.Stop(ctx); err != nil {
			t.Error(err)
		}
		if ids, _ := w.ward.content(); len(ids) > 0 || w.tries.Load() != 1 {
			t.Errorf("tried %d times, quarantined %v; want 1 and none", w.tries.Load(), ids)
		}
		w.wantAgain(t)
	})
}

// wantAgain checks that, after the stop, the message is still there, and that it comes as the first attempt.
func (w *world) wantAgain(t *testing.T) {
	t.Helper()
	sub, err := w.transport.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sub.Receive(t.Context(), 10); err != nil || len(got) != 1 || got[0].Attempt != 1 {
		t.Errorf("after the stop came %+v (%v), want the message once, as attempt 1", got, err)
	}
}
