package middleware_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

func panicking(value any) bus.Handler {
	return func(context.Context, *bus.Delivery) error { panic(value) }
}

func TestRecover(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		value     any
		text      string
		is        error
		permanent bool
	}{
		"text":             {value: "boom", text: "boom"},
		"error":            {value: errFlaky, text: "flaky", is: errFlaky},
		"permanent":        {value: bus.Permanent(errFlaky), text: "flaky", is: errFlaky, permanent: true},
		"nil":              {value: nil, text: "nil"},
		"a bad Error":      {value: (*badError)(nil), text: "panicked"},
		"a verdict inside": {value: errors.Join(errFlaky, bus.Permanent(errors.New("x"))), text: "x", is: errFlaky, permanent: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := middleware.Recover()(panicking(tc.value))(t.Context(), delivery())
			var p *middleware.PanicError
			if !errors.As(err, &p) {
				t.Fatalf("got %v, want a *PanicError", err)
			}
			if tc.value != nil && p.Value != tc.value {
				t.Errorf("Value is %v, want %v", p.Value, tc.value)
			}
			if !strings.Contains(string(p.Stack), "recover_test.go:14") {
				t.Errorf("the stack does not name who panicked:\n%s", p.Stack)
			}
			if text := err.Error(); !strings.Contains(text, tc.text) || !strings.Contains(text, "recover_test.go") {
				t.Errorf("the text holds no value %q, or no stack:\n%s", tc.text, text)
			}
			if tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("the error does not match %v", tc.is)
			}
			if got := bus.IsPermanent(err); got != tc.permanent {
				t.Errorf("IsPermanent: got %v, want %v", got, tc.permanent)
			}
		})
	}
}

type badError struct{ text string }

func (e *badError) Error() string { return e.text }

func TestRecoverPassesErrors(t *testing.T) {
	t.Parallel()
	if err := middleware.Recover()(innermost(errFlaky))(t.Context(), delivery()); err != errFlaky {
		t.Errorf("got %v, want the handler's error as it is", err)
	}
}

func TestRecoverAllocates(t *testing.T) { // not parallel: it counts allocations
	wantNoAllocs(t, middleware.Recover()(innermost()))
}
