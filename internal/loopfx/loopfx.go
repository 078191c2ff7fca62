// Package loopfx runs loops within the life of an fx application.
package loopfx

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/fx"
)

// ExitCode is that of an application whose loop failed.
const ExitCode = 1

// Append runs loop from the start of the application to its stop, on a context of its own that ends at the stop. An
// error shuts the application down with ExitCode and is what the stop hook returns; a loop that returns nil is through.
func Append(lc fx.Lifecycle, sd fx.Shutdowner, name string, loop func(ctx context.Context) error) {
	var cancel context.CancelFunc
	var ended chan error
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error {
			var ctx context.Context
			ctx, cancel = context.WithCancel(context.Background())
			ended = make(chan error, 1)
			go func() {
				err := loop(ctx)
				if ctx.Err() == nil && err != nil {
					_ = sd.Shutdown(fx.ExitCode(ExitCode)) // fails only where nobody waits
				}
				ended <- err
			}()
			return nil
		},
		OnStop: func(ctx context.Context) error {
			cancel()
			select {
			case err := <-ended:
				if err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
				return nil
			case <-ctx.Done():
				return fmt.Errorf("%s: still running: %w", name, ctx.Err())
			}
		},
	})
}

// Reserve is ctx for a hook that may take all the time there is, with a fifth of that, at most five seconds, left to the
// hooks after it: fx runs none of them once the time is up.
func Reserve(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-min(time.Until(deadline)/5, 5*time.Second)))
}
