// Package middleware has what stands around the handlers of a bus. Each middleware is used by itself; [Standard] puts
// them in the right order:
//
//	bus.New(bus.Config{
//		Transport:  t,
//		Middleware: middleware.Standard(middleware.StandardConfig{Quarantine: store}),
//	})
//
// A middleware has the whole delivery in its hands, once per delivery, except inside of [Retry], where it has every try.
// One that is in bus.Config.Middleware is shared by all groups: a [Throttle] or a [Breaker] there counts what all of them
// do together, and in bus.GroupConfig.Middleware what one of them does.
//
// Configs are copied; negative numbers in them count as zero, and zero as the default that the field states.
package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/bus"
)

// interrupted reports whether err is no outcome of handling, because the bus is stopping.
func interrupted(ctx context.Context, err error) bool {
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

// ended returns the error of a wait that ctx, or the stop of the bus, has ended; nil if neither has.
func ended(ctx context.Context, what string) error {
	cause := context.Cause(ctx)
	if cause == nil {
		select {
		case <-bus.Stopping(ctx):
			cause = bus.ErrStopped
		default:
			return nil
		}
	}
	return fmt.Errorf("middleware: %s: %w", what, cause)
}

// orDefault returns v, or otherwise if v is not positive.
func orDefault[N int | float64 | time.Duration](v, otherwise N) N {
	if v <= 0 {
		return otherwise
	}
	return v
}
