package middleware

import (
	"context"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// ThrottleConfig configures Throttle.
type ThrottleConfig struct {
	// Rate is how many deliveries pass per second, in the long run. Default: no limit.
	Rate float64
	// Burst is how many may pass at once after a quiet time. Default: 1.
	Burst int
}

// Throttle limits the rate of what passes, for what must not be called too often. A delivery that is too early waits in
// its worker, in the order of arrival, until its time has come. When ctx ends or the bus begins to stop it returns at
// once, with an error that does not count as an attempt, and matches bus.ErrStopped in a bus that stops.
func Throttle(cfg ThrottleConfig) bus.Middleware {
	if cfg.Rate <= 0 {
		return func(next bus.Handler) bus.Handler { return next }
	}
	const longest = float64(1 << 60) // of nanoseconds, far from an overflow
	interval := min(longest, float64(time.Second)/cfg.Rate)
	tolerance := min(longest, interval*float64(orDefault(cfg.Burst, 1)-1))
	l := &limiter{interval: time.Duration(interval), tolerance: time.Duration(tolerance)}
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			if delay := l.take(); delay > 0 {
				if err := halt.Wait(ctx, delay, "middleware: throttle"); err != nil {
					l.giveBack()
					return err
				}
			}
			return next(ctx, d)
		}
	}
}

// limiter is the generic cell rate algorithm in its virtual scheduling form (ITU-T I.371).
type limiter struct {
	interval, tolerance time.Duration

	mu   sync.Mutex
	next time.Time // when the next would come if all kept their distance
}

// take books the next free time, and returns how long it is until then.
func (l *limiter) take() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if l.next.Before(now) {
		l.next = now
	}
	delay := l.next.Sub(now) - l.tolerance
	l.next = l.next.Add(l.interval)
	return delay
}

func (l *limiter) giveBack() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = l.next.Add(-l.interval)
}
