package middleware_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

// lasting is a handler that takes a time, unless its context ends.
func lasting(times ...time.Duration) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		d.Tries++
		select {
		case <-time.After(times[min(d.Tries, len(times))-1]):
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg     middleware.TimeoutConfig
		outer   time.Duration // deadline of the context that comes in
		lasts   time.Duration
		elapsed time.Duration
		says    string // "": no *TimeoutError
		fails   bool
	}{
		"in time":         {cfg: middleware.TimeoutConfig{Timeout: 5 * time.Second}, lasts: 4 * time.Second, elapsed: 4 * time.Second},
		"too late":        {cfg: middleware.TimeoutConfig{Timeout: 5 * time.Second}, lasts: time.Hour, elapsed: 5 * time.Second, says: "5s", fails: true},
		"default":         {lasts: time.Hour, elapsed: 30 * time.Second, says: "30s", fails: true},
		"another's limit": {outer: time.Second, lasts: time.Hour, elapsed: time.Second, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tc.outer > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tc.outer)
					defer cancel()
				}
				begin := time.Now()
				err := middleware.Timeout(tc.cfg)(lasting(tc.lasts))(ctx, delivery())
				if got := time.Since(begin); got != tc.elapsed {
					t.Errorf("it took %v, want %v", got, tc.elapsed)
				}
				if tc.fails != errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("got %v, want context.DeadlineExceeded: %v", err, tc.fails)
				}
				var timeout *middleware.TimeoutError
				if errors.As(err, &timeout) != (tc.says != "") || tc.says != "" && !strings.Contains(err.Error(), tc.says) {
					t.Errorf("got %v, want it to name the timeout %q", err, tc.says)
				}
			})
		})
	}
}

func TestTimeoutWithinTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		outer := middleware.Timeout(middleware.TimeoutConfig{Timeout: time.Minute})
		inner := middleware.Timeout(middleware.TimeoutConfig{Timeout: time.Hour})
		err := bus.Chain(outer, inner)(lasting(24*time.Hour))(t.Context(), delivery())
		if err == nil || !strings.Contains(err.Error(), "1m0s") || strings.Contains(err.Error(), "1h") {
			t.Errorf("got %v, want it to name the timeout that has passed, and no other", err)
		}
	})
}

func TestTimeoutKeepsSuccessAndVerdict(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		late := func(err error) error {
			return middleware.Timeout(middleware.TimeoutConfig{Timeout: time.Second})(func(context.Context, *bus.Delivery) error {
				time.Sleep(time.Minute)
				return err
			})(t.Context(), delivery())
		}
		if err := late(nil); err != nil {
			t.Errorf("late success: got %v, want nil", err)
		}
		if err := late(bus.Permanent(errFlaky)); !bus.IsPermanent(err) || !errors.Is(err, errFlaky) {
			t.Errorf("got %v, want the handler's error and verdict in it", err)
		}
	})
}

func TestTimeoutIsFreshForEachTry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		retry := middleware.Retry(middleware.RetryConfig{Attempts: 3})
		timeout := middleware.Timeout(middleware.TimeoutConfig{Timeout: 10 * time.Second})
		d := delivery()
		if err := bus.Chain(retry, timeout)(lasting(time.Hour, time.Hour, 9*time.Second))(t.Context(), d); err != nil || d.Tries != 3 {
			t.Errorf("got %v after %d tries, want success with the third, which has the whole timeout", err, d.Tries)
		}
	})
}
