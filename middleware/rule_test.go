package middleware_test

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

// full is an error type of the tests.
type full struct{ bytes int }

func (full) Error() string { return "full" }

func TestRules(t *testing.T) {
	t.Parallel()
	wrapped := fmt.Errorf("insert: %w", full{3})
	for name, tc := range map[string]struct {
		rules     []middleware.Rule
		err       error
		tries     int
		waits     bool
		permanent bool
	}{
		"no rule":                {err: errFlaky, tries: 3, waits: true},
		"speaks of others":       {rules: []middleware.Rule{middleware.As[full](middleware.Never)}, err: errFlaky, tries: 3, waits: true},
		"never, by type":         {rules: []middleware.Rule{middleware.As[full](middleware.Never)}, err: wrapped, tries: 1, permanent: true},
		"never, by value":        {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Never)}, err: fmt.Errorf("x: %w", errFlaky), tries: 1, permanent: true},
		"at once":                {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.AtOnce)}, err: errFlaky, tries: 3},
		"later":                  {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Later)}, err: errFlaky, tries: 1},
		"the first holds":        {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Later), middleware.Is(errFlaky, middleware.Never)}, err: errFlaky, tries: 1},
		"an exception":           {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Usual), {If: func(error) bool { return true }, Then: middleware.Never}}, err: errFlaky, tries: 3, waits: true},
		"of nothing":             {rules: []middleware.Rule{{Then: middleware.Never}}, err: errFlaky, tries: 3, waits: true},
		"the handler's verdict":  {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Never)}, err: bus.RetryAfter(time.Hour, errFlaky), tries: 1},
		"the handler's, forever": {rules: []middleware.Rule{middleware.Is(errFlaky, middleware.AtOnce)}, err: bus.Permanent(errFlaky), tries: 1, permanent: true},
		"a panic":                {rules: []middleware.Rule{middleware.As[*middleware.PanicError](middleware.Never)}, err: &middleware.PanicError{Value: 1}, tries: 1, permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				d, begin := delivery(), time.Now()
				err := middleware.Retry(middleware.RetryConfig{Rules: tc.rules})(innermost(tc.err))(t.Context(), d)
				if !errors.Is(err, tc.err) || bus.IsPermanent(err) != tc.permanent || d.Tries != tc.tries {
					t.Errorf("got %v (permanent: %v) after %d tries, want %d", err, bus.IsPermanent(err), d.Tries, tc.tries)
				}
				if waited := time.Since(begin) > 0; waited != tc.waits {
					t.Errorf("it took %v, want pauses: %v", time.Since(begin), tc.waits)
				}
			})
		})
	}
}

// A rule holds for the last try, too.
func TestRuleForTheOnlyTry(t *testing.T) {
	t.Parallel()
	h := middleware.Retry(middleware.RetryConfig{Attempts: 1, Rules: []middleware.Rule{middleware.Is(errFlaky, middleware.Never)}})(innermost(errFlaky))
	if err := h(t.Context(), delivery()); !bus.IsPermanent(err) {
		t.Errorf("got %v, want it permanent", err)
	}
}
