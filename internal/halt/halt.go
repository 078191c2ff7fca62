// Package halt is how middleware gives way when its context ends or the bus begins to stop.
package halt

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/bus"
)

// Interrupted reports whether err is no outcome of handling, because the bus is stopping.
func Interrupted(ctx context.Context, err error) bool {
	if ctx.Err() != nil {
		return true
	}
	select {
	case <-bus.Stopping(ctx):
		return errors.Is(err, bus.ErrStopped)
	default:
		return false
	}
}

// Ended returns the error of a wait that ctx, or the stop of the bus, has ended; nil if neither has. What begins the error.
func Ended(ctx context.Context, what string) error {
	cause := context.Cause(ctx)
	if cause == nil {
		select {
		case <-bus.Stopping(ctx):
			cause = bus.ErrStopped
		default:
			return nil
		}
	}
	return fmt.Errorf("%s: %w", what, cause)
}

// Wait waits, and returns nil; or the error of Ended if ctx ended, or the bus began to stop.
func Wait(ctx context.Context, delay time.Duration, what string) error {
	if err := Ended(ctx, what); err != nil || delay <= 0 {
		return err
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
	case <-bus.Stopping(ctx):
	}
	return Ended(ctx, what)
}
