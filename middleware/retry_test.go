package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

func TestRetry(t *testing.T) {
	t.Parallel()
	permanent, wrong := bus.Permanent(errFlaky), errors.New("wrong")
	onlyFlaky := []middleware.Rule{middleware.Is(errFlaky, middleware.Usual), {If: func(error) bool { return true }, Then: middleware.Later}}
	for name, tc := range map[string]struct {
		cfg   middleware.RetryConfig
		errs  []error
		want  error
		tries int
		least time.Duration
		most  time.Duration
	}{
		"success at once":         {tries: 1},
		"success later":           {errs: []error{errFlaky, errFlaky, nil}, tries: 3, most: 150 * time.Millisecond},
		"default attempts":        {errs: []error{errFlaky}, want: errFlaky, tries: 3, most: 150 * time.Millisecond},
		"negative is default":     {cfg: middleware.RetryConfig{Attempts: -1, Delay: -1, MaxDelay: -1}, errs: []error{errFlaky}, want: errFlaky, tries: 3, most: 150 * time.Millisecond},
		"one attempt":             {cfg: middleware.RetryConfig{Attempts: 1}, errs: []error{errFlaky}, want: errFlaky, tries: 1},
		"many":                    {cfg: middleware.RetryConfig{Attempts: 100}, errs: []error{errFlaky}, want: errFlaky, tries: 100, least: time.Second, most: 100 * time.Second},
		"longest possible delay":  {cfg: middleware.RetryConfig{Attempts: 2, Delay: 1<<63 - 1}, errs: []error{errFlaky}, want: errFlaky, tries: 2, most: 1<<63 - 1},
		"delay above the longest": {cfg: middleware.RetryConfig{Delay: time.Hour, MaxDelay: 10 * time.Millisecond}, errs: []error{errFlaky}, want: errFlaky, tries: 3, most: 20 * time.Millisecond},
		"permanent":               {errs: []error{permanent}, want: permanent, tries: 1},
		"permanent in a wrapping": {errs: []error{fmt.Errorf("x: %w", permanent)}, want: permanent, tries: 1},
		"permanent later":         {errs: []error{errFlaky, permanent}, want: permanent, tries: 2, most: 50 * time.Millisecond},
		"rules say no":            {cfg: middleware.RetryConfig{Rules: onlyFlaky}, errs: []error{errFlaky, wrong}, want: wrong, tries: 2, most: 50 * time.Millisecond},
		"asks for a short wait": {errs: []error{bus.RetryAfter(700*time.Millisecond, errFlaky), nil}, tries: 2,
			least: 700 * time.Millisecond, most: 700 * time.Millisecond},
		"asks for the longest wait": {errs: []error{bus.RetryAfter(time.Second, errFlaky), nil}, tries: 2, least: time.Second, most: time.Second},
		"asks for a long wait":      {errs: []error{bus.RetryAfter(time.Second+1, errFlaky), nil}, want: errFlaky, tries: 1},
		"asks for none":             {errs: []error{bus.RetryAfter(-time.Second, errFlaky), nil}, tries: 2},
		"asks, against the rules":   {cfg: middleware.RetryConfig{Rules: onlyFlaky}, errs: []error{bus.RetryAfter(time.Millisecond, wrong), nil}, tries: 2, least: time.Millisecond, most: time.Millisecond},
		"asks for ever":             {errs: []error{bus.RetryAfter(time.Millisecond, errFlaky)}, want: errFlaky, tries: 3, least: 2 * time.Millisecond, most: 2 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, begin := delivery(), time.Now()
				err := middleware.Retry(tc.cfg)(innermost(tc.errs...))(t.Context(), d)
				if !errors.Is(err, tc.want) {
					t.Errorf("got %v, want %v", err, tc.want)
				}
				if d.Tries != tc.tries {
					t.Errorf("tried %d times, want %d", d.Tries, tc.tries)
				}
				if took := time.Since(begin); took < tc.least || took > tc.most {
					t.Errorf("it took %v, want %v to %v", took, tc.least, tc.most)
				}
			})
		})
	}
}

// The pauses must be spread over all of [0, bound), and the bounds must double up to MaxDelay.
func TestRetryBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const rounds = 500
		bounds := []time.Duration{100, 200, 400, 500, 500} // ms
		sum, least, most := make([]time.Duration, 5), make([]time.Duration, 5), make([]time.Duration, 5)
		for range rounds {
			last, n := time.Now(), -1
			h := middleware.Retry(middleware.RetryConfig{Attempts: 6, Delay: 100 * time.Millisecond, MaxDelay: 500 * time.Millisecond})
			_ = h(func(_ context.Context, d *bus.Delivery) error {
				d.Tries++
				if pause := time.Since(last); n >= 0 {
					sum[n] += pause
					if least[n] == 0 || pause < least[n] {
						least[n] = pause
					}
					most[n] = max(most[n], pause)
				}
				n++
				last = time.Now()
				return errFlaky
			})(t.Context(), delivery())
		}
		for i, bound := range bounds {
			bound *= time.Millisecond
			mean := sum[i] / rounds
			if most[i] >= bound || most[i] < bound*9/10 || least[i] > bound/10 || mean < bound*4/10 || mean > bound*6/10 {
				t.Errorf("pause %d: %v to %v, mean %v; want all of 0 to %v evenly", i+1, least[i], most[i], mean, bound)
			}
		}
	})
}

func TestRetryStopsWithItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause := errors.New("shutdown")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Minute, func() { cancel(cause) })
		d, begin := delivery(), time.Now()
		err := middleware.Retry(middleware.RetryConfig{MaxDelay: time.Hour})(innermost(bus.RetryAfter(time.Hour, errFlaky)))(ctx, d)
		if took := time.Since(begin); took != time.Minute || d.Tries != 1 {
			t.Errorf("stopped after %v and %d tries, want at once and 1", took, d.Tries)
		}
		if !errors.Is(err, cause) || !errors.Is(err, errFlaky) {
			t.Errorf("got %v, want it to say why it stopped, and what failed", err)
		}
		d = delivery()
		if err := middleware.Retry(middleware.RetryConfig{})(innermost(errFlaky))(ctx, d); err != errFlaky || d.Tries != 1 {
			t.Errorf("got %v and %d tries, want no retry in an ended context", err, d.Tries)
		}
	})
}

func TestRetryCountsTries(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		before int // tries before the chain ran again, after runtime.Goexit
		inner  bus.Handler
		calls  int
	}{
		"goes on counting":               {before: 2, inner: innermost(errFlaky), calls: 2},
		"used up":                        {before: 4, inner: func(context.Context, *bus.Delivery) error { return errFlaky }, calls: 1},
		"does not reach the handler":     {inner: func(context.Context, *bus.Delivery) error { return errFlaky }, calls: 4},
		"a retry within does not square": {inner: middleware.Retry(middleware.RetryConfig{Attempts: 4})(innermost(errFlaky)), calls: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, calls := delivery(), 0
				d.Tries = tc.before
				err := middleware.Retry(middleware.RetryConfig{Attempts: 4})(func(ctx context.Context, d *bus.Delivery) error {
					calls++
					return tc.inner(ctx, d)
				})(t.Context(), d)
				if err != errFlaky || calls != tc.calls {
					t.Errorf("got %v after %d calls, want %d calls", err, calls, tc.calls)
				}
			})
		})
	}
}

func TestRetryAllocates(t *testing.T) { // not parallel: it counts allocations
	wantNoAllocs(t, middleware.Retry(middleware.RetryConfig{})(innermost()))
}
