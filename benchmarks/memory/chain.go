package memory

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/postbus/postbus/bus"
)

// chain stands in for package middleware until that is there.
func chain() []bus.Middleware { return []bus.Middleware{correlation, retry, recoverer} }

func correlation(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		if d.CorrelationID == "" {
			m := *d.Message
			m.CorrelationID = m.ID
			d.Message = &m
		}
		return next(ctx, d)
	}
}

func retry(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		err := next(ctx, d)
		for try := 1; err != nil && try <= 3 && !bus.IsPermanent(err) && ctx.Err() == nil; try++ {
			time.Sleep(time.Duration(try) * 100 * time.Millisecond)
			err = next(ctx, d)
		}
		return err
	}
}

func recoverer(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		return next(ctx, d)
	}
}
