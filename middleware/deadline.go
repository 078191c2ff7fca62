package middleware

import (
	"context"
	"sync"
	"time"
)

// lazyDeadline is a context with a deadline whose timer is only made when somebody waits for the end of the context, or
// asks after the deadline: most handlers do neither, and the timer costs more than all the rest of the chain.
type lazyDeadline struct {
	context.Context // that around it
	deadline        time.Time
	cause           error

	mu     sync.Mutex
	real   context.Context // once somebody has asked
	cancel context.CancelFunc
	over   bool
}

var _ context.Context = (*lazyDeadline)(nil)

// get returns the real context, and makes it if must is true or the deadline has passed; else it can be nil.
func (c *lazyDeadline) get(must bool) context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.real == nil && (must || c.over || !time.Now().Before(c.deadline)) {
		c.real, c.cancel = context.WithDeadlineCause(c.Context, c.deadline, c.cause)
		if c.over {
			c.cancel()
		}
	}
	return c.real
}

// end is what the CancelFunc of a context does.
func (c *lazyDeadline) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over = true; c.cancel != nil {
		c.cancel()
	}
}

// passed reports whether it was the deadline that has ended the context.
func (c *lazyDeadline) passed() bool {
	real := c.get(false)
	return real != nil && context.Cause(real) == c.cause
}

// Deadline implements context.Context.
func (c *lazyDeadline) Deadline() (time.Time, bool) {
	if outer, ok := c.Context.Deadline(); ok && outer.Before(c.deadline) {
		return outer, true
	}
	return c.deadline, true
}

// Done implements context.Context.
func (c *lazyDeadline) Done() <-chan struct{} { return c.get(true).Done() }

// Err implements context.Context.
func (c *lazyDeadline) Err() error {
	if real := c.get(false); real != nil {
		return real.Err()
	}
	return c.Context.Err()
}

// Value implements context.Context. Package context asks by it for the cause, which the real context has.
func (c *lazyDeadline) Value(key any) any {
	if real := c.get(false); real != nil {
		return real.Value(key)
	}
	return c.Context.Value(key)
}
