package middleware

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// Defaults of RetryConfig.
const (
	DefaultRetryAttempts = 3
	DefaultRetryDelay    = 50 * time.Millisecond
	DefaultRetryMaxDelay = time.Second
)

// RetryConfig configures Retry.
type RetryConfig struct {
	// Attempts is how often a message is tried during one delivery, the first try included; 1 is no retry. Default:
	// DefaultRetryAttempts.
	Attempts int
	// Delay bounds the pause after the first try; the bound doubles with each further one. Default: DefaultRetryDelay.
	Delay time.Duration
	// MaxDelay is the longest pause. A message that asks for more with bus.RetryAfter leaves the worker at once, to come
	// again as another delivery. Default: DefaultRetryMaxDelay, or Delay if that is longer.
	MaxDelay time.Duration
	// Rules say for which errors it is otherwise; the first that speaks about an error holds. Default: none.
	Rules []Rule
}

// Retry tries a message that failed again, in process and at once: for what passes by itself within a second. The worker
// waits, and with it the messages of the same key; what takes longer is for another delivery. When the attempts are used
// up the last error is returned as it is.
//
// The pause is random between zero and its bound ("full jitter": Brooker, Exponential Backoff And Jitter, AWS
// Architecture Blog, 2015). When ctx ends or the bus begins to stop it returns at once, with an error that does not count
// as an attempt, and matches bus.ErrStopped in a bus that stops.
//
// Tries are counted by bus.Delivery.Tries, so that those that ended their goroutine count and a second Retry does not
// multiply them: the larger number of Attempts holds.
func Retry(cfg RetryConfig) bus.Middleware {
	cfg.Attempts = orDefault(cfg.Attempts, DefaultRetryAttempts)
	cfg.Delay = orDefault(cfg.Delay, DefaultRetryDelay)
	cfg.MaxDelay = orDefault(cfg.MaxDelay, max(DefaultRetryMaxDelay, cfg.Delay))
	cfg.Rules = slices.Clone(cfg.Rules)
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			for turn := 1; ; turn++ { // counts those that have failed before they reached the handler
				err := next(ctx, d)
				if err == nil {
					return nil
				}
				if bus.IsPermanent(err) || bus.IsSetAside(err) || halt.Interrupted(ctx, err) {
					return err
				}
				verdict := AtOnce
				delay, asked := bus.RetryDelay(err)
				if !asked {
					verdict = verdictOn(cfg.Rules, err)
				}
				tries := max(turn, d.Tries)
				switch {
				case verdict == Never:
					return bus.Permanent(err)
				case verdict == Later, tries >= cfg.Attempts, delay > cfg.MaxDelay:
					return err
				case verdict == Usual:
					delay = cfg.pause(tries)
				}
				if stop := halt.Wait(ctx, delay, "middleware: retry"); stop != nil {
					return fmt.Errorf("%w, after try %d: %w", stop, tries, err)
				}
			}
		}
	}
}

// pause returns the time to wait after a number of tries.
func (c *RetryConfig) pause(tries int) time.Duration {
	bound := c.Delay
	for range tries - 1 {
		if bound >= c.MaxDelay/2 {
			bound = c.MaxDelay
			break
		}
		bound *= 2
	}
	return rand.N(min(bound, c.MaxDelay))
}
