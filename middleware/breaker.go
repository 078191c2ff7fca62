package middleware

import (
	"context"
	"errors"
	"math"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// ErrOpen says that a Breaker has let nothing pass.
var ErrOpen = errors.New("middleware: circuit breaker is open")

// Defaults of BreakerConfig.
const (
	DefaultBreakerFailures    = 5
	DefaultBreakerMinRequests = 20
	DefaultBreakerWindow      = time.Minute
	DefaultBreakerOpenFor     = 30 * time.Second
)

// probeDelay is how long deliveries stay away while others probe, at most.
const probeDelay = time.Second

// BreakerConfig configures Breaker.
type BreakerConfig struct {
	// Failures is how many failures in a row, within Window, open the breaker. Default: DefaultBreakerFailures.
	Failures int
	// Rate opens the breaker when this share of the tries within Window has failed, between 0 and 1, if there were
	// MinRequests of them. Default: only failures in a row count.
	Rate float64
	// MinRequests is how many tries Rate needs to speak. Default: DefaultBreakerMinRequests.
	MinRequests int
	// Window is the time that is looked back on, in steps of a tenth. Default: DefaultBreakerWindow.
	Window time.Duration
	// OpenFor is how long the breaker stays open before it lets Probes pass. Default: DefaultBreakerOpenFor.
	OpenFor time.Duration
	// Probes is how many tries pass at once after that. If all succeed the breaker closes, if one fails it opens again.
	// Default: 1.
	Probes int
	// If says which errors are failures of what the breaker protects. It is called concurrently. Default: all but
	// bus.Permanent, which speaks about the message.
	If func(error) bool
}

// Outcomes for the eyes of the breaker alone.
var (
	errNone    = errors.New("says nothing about what the breaker protects")
	errUnknown = errors.New("did not return")
)

// Breaker keeps messages away from what fails anyway (circuit breaker: Nygard, Release It!). While it is open a delivery
// returns bus.RetryAfter with the time that is left, and ErrOpen; that uses up an attempt of the delivery, so that with
// Quarantined an outage must be shorter than the attempts last. Errors while the bus stops do not count, panics do.
//
// It belongs inside of Retry, commonly in the Middleware of one group, next to the handler that needs it.
func Breaker(cfg BreakerConfig) bus.Middleware {
	cfg.Failures = orDefault(cfg.Failures, DefaultBreakerFailures)
	cfg.MinRequests = orDefault(cfg.MinRequests, DefaultBreakerMinRequests)
	cfg.Window = min(orDefault(cfg.Window, DefaultBreakerWindow), math.MaxInt64/2) // gobreaker adds to it
	cfg.OpenFor = orDefault(cfg.OpenFor, DefaultBreakerOpenFor)
	if cfg.If == nil {
		cfg.If = func(err error) bool { return !bus.IsPermanent(err) }
	}
	var until atomic.Pointer[time.Time] // the end of the open state
	breaker := gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  uint32(orDefault(cfg.Probes, 1)),
		Interval:     cfg.Window,
		BucketPeriod: max(cfg.Window/10, 1),
		Timeout:      cfg.OpenFor,
		ReadyToTrip:  cfg.trips,
		IsSuccessful: func(err error) bool { return err == nil || err != errUnknown && !cfg.If(err) },
		IsExcluded:   func(err error) bool { return err == errNone },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			if end := time.Now().Add(cfg.OpenFor); to == gobreaker.StateOpen {
				until.Store(&end)
			}
		},
	})
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			done, err := breaker.Allow()
			switch {
			case errors.Is(err, gobreaker.ErrOpenState):
				return bus.RetryAfter(max(0, time.Until(*until.Load()))+1, ErrOpen) // +1: it opens after that time, not at it
			case err != nil:
				return bus.RetryAfter(min(probeDelay, cfg.OpenFor), ErrOpen)
			}
			err = errUnknown // until it returns, if it does: a probe that panics or ends its goroutine must not be waited for
			defer func() { done(err) }()
			outcome := next(ctx, d)
			if err = outcome; err != nil && halt.Interrupted(ctx, err) {
				err = errNone
			}
			return outcome
		}
	}
}

func (c *BreakerConfig) trips(counts gobreaker.Counts) bool {
	tries := float64(counts.TotalSuccesses + counts.TotalFailures)
	return int64(counts.ConsecutiveFailures) >= int64(c.Failures) ||
		c.Rate > 0 && tries >= float64(c.MinRequests) && float64(counts.TotalFailures) >= c.Rate*tries
}
