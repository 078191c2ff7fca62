package middleware

import (
	"context"
	"math"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// DelayedRetryConfig configures DelayedRetry.
type DelayedRetryConfig struct {
	// Delays are the pauses after the first failed delivery of a message, the second, and so on; the last one holds for all
	// further ones. Each is lengthened by up to a tenth, at random, so that what failed together does not come back
	// together. Default: none; it is the bus that says when a message comes again.
	Delays []time.Duration
	// Attempts is the last delivery: its error is returned as it is, for Quarantined. Default: none is the last.
	Attempts int
}

// DelayedRetry has a message that failed come again after a longer pause, as another delivery: it turns an error into a
// bus.RetryAfter. Which of the Delays is told by bus.Delivery.Attempt, which counts across restarts where the transport
// does. Errors that are bus.Permanent, bus.SetAside or bus.RetryAfter already are returned as they are, and so are those
// that a stop of the bus has caused.
//
// A pause of more than a second is spent in the transport: the message holds no worker and no place in Prefetch, and later
// messages of its key overtake it. With bus.GroupConfig.KeepOrder, or on a transport that cannot delay for one group, it
// waits in its place instead, and its key with it, while other keys flow. It belongs outside of Retry and inside of
// Quarantined.
func DelayedRetry(cfg DelayedRetryConfig) bus.Middleware {
	delays := slices.Clone(cfg.Delays)
	return func(next bus.Handler) bus.Handler {
		if len(delays) == 0 {
			return next
		}
		return func(ctx context.Context, d *bus.Delivery) error {
			err := next(ctx, d)
			if err == nil || cfg.Attempts > 0 && d.Attempt >= cfg.Attempts || decided(ctx, err) {
				return err
			}
			delay := min(max(0, delays[min(max(1, d.Attempt), len(delays))-1]), math.MaxInt64/2)
			return bus.RetryAfter(delay+rand.N(delay/10+1), err)
		}
	}
}

// decided reports whether err says itself what becomes of the message.
func decided(ctx context.Context, err error) bool {
	if _, asked := bus.RetryDelay(err); asked {
		return true
	}
	return bus.IsPermanent(err) || bus.IsSetAside(err) || halt.Interrupted(ctx, err)
}
