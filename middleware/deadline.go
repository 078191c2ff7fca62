package middleware

import (
	"context"
	"sync/atomic"
	"time"
)

// lazyDeadline is a context with a deadline whose timer is only made when somebody waits for the end of the context, or
// asks after the deadline: most handlers do neither, and the timer costs more than all the rest of the chain.
type lazyDeadline struct {
	context.Context // that around it
	deadline        time.Time
	cause           error
	real            atomic.Pointer[realDeadline] // nil until somebody asks, or it is over
}

var _ context.Context = (*lazyDeadline)(nil)

type realDeadline struct {
	context.Context
	cancel context.CancelFunc
}

// over stands for the real context of one that ended before anybody asked.
var over = &realDeadline{cancel: func() {}}

// get returns the real context, and makes it if must is true or the deadline has passed; else it can be nil.
func (c *lazyDeadline) get(must bool) context.Context {
	for {
		known := c.real.Load()
		if known != nil && known != over {
			return known.Context
		}
		if known == nil && !must && time.Now().Before(c.deadline) {
			return nil
		}
		made := &realDeadline{}
		if known == over {
			made.Context, made.cancel = context.WithCancel(c.Context)
			made.cancel()
		} else {
			made.Context, made.cancel = context.WithDeadlineCause(c.Context, c.deadline, c.cause)
		}
		if c.real.CompareAndSwap(known, made) {
			return made.Context
		}
		made.cancel()
	}
}

// end is what the CancelFunc of a context does.
func (c *lazyDeadline) end() {
	if !c.real.CompareAndSwap(nil, over) {
		c.real.Load().cancel()
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
