package middleware

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/bus"
)

// DefaultTimeout is used where TimeoutConfig.Timeout is zero.
const DefaultTimeout = 30 * time.Second

// TimeoutConfig configures Timeout.
type TimeoutConfig struct {
	// Timeout is how long a try may take. Default: DefaultTimeout.
	Timeout time.Duration
}

// TimeoutError says which timeout has passed. It matches context.DeadlineExceeded, and it is the context.Cause of the
// handler's context.
type TimeoutError struct {
	// Timeout is the time that was allowed.
	Timeout time.Duration
}

// Error implements error.
func (e *TimeoutError) Error() string {
	return fmt.Sprintf("middleware: timeout of %v passed", e.Timeout)
}

// Unwrap returns context.DeadlineExceeded.
func (e *TimeoutError) Unwrap() error { return context.DeadlineExceeded }

// Timeout ends the context of what is inside after a time. Inside of Retry, where it belongs, each try gets a fresh
// context and the whole time.
//
// An error that is returned after that wraps a *TimeoutError as well as the handler's own. A handler that does not look
// at its context is not interrupted, and one that returns nil has succeeded, however late.
func Timeout(cfg TimeoutConfig) bus.Middleware {
	timeout := orDefault(cfg.Timeout, DefaultTimeout)
	passed := &TimeoutError{timeout} // one for all, so that the cause of another Timeout is not taken for ours
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			limited := &lazyDeadline{Context: ctx, deadline: time.Now().Add(timeout), cause: passed}
			defer limited.end()
			err := next(limited, d)
			if err != nil && limited.passed() {
				return fmt.Errorf("%w: %w", passed, err)
			}
			return err
		}
	}
}
