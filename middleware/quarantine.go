package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// Quarantine keeps messages that cannot be handled, until somebody decides about them.
type Quarantine interface {
	// Put returns nil only when d is safe: it is acknowledged after that. It can be called concurrently, and again for
	// a message that it has already, which then stays one entry. It must neither change d nor keep it. ctx is that of
	// the delivery; cause is the last error, in which errors.As finds a *PanicError if the handler panicked.
	Put(ctx context.Context, d *bus.Delivery, cause error) error
}

// Gate is a Quarantine that also stands around each delivery, outside of Quarantined: messages wait in it behind others.
type Gate interface {
	Quarantine
	// Gate is called as a bus.Middleware is. A message that waits is a bus.SetAside error that matches ErrParked.
	Gate(next bus.Handler) bus.Handler
}

// ErrParked: the message was not tried; it waits in the quarantine behind another one of its key.
var ErrParked = errors.New("middleware: the message waits in quarantine behind another of its key")

// DefaultQuarantineAttempts is used where QuarantineConfig.Attempts is zero.
const DefaultQuarantineAttempts = 10

// ErrAttempts is the cause of a message that came once more after its last attempt, whose outcome nobody has recorded:
// its handling ends the process, or Put failed after it.
var ErrAttempts = errors.New("middleware: attempts used up, and the last has left no outcome")

// QuarantineConfig configures Quarantined.
type QuarantineConfig struct {
	// Attempts is how many deliveries of a message may fail; see bus.Delivery.Attempt, which counts across restarts
	// where the transport does. Default: DefaultQuarantineAttempts.
	Attempts int
	// Logger gets a line for each message that was put into quarantine, at slog.LevelError. Default: slog.Default() at
	// the time of the call of Quarantined.
	Logger *slog.Logger
}

// Quarantined puts messages that cannot be handled into a store, and returns bus.SetAside, so that they are acknowledged:
// a bus.Permanent error at once, any other (bus.RetryAfter too) with the last attempt. A message that comes after its last attempt, because its
// handling ends the process, goes there without being handled again.
//
// If the store fails, or panics, the error is returned, nothing is acknowledged, and the message comes again. Errors while the bus
// stops are no attempts. It belongs outside of Retry; inside of it a quarantined message would be a success. Without a
// store it is nil, which bus.New refuses. A store that is a Gate stands around it.
func Quarantined(store Quarantine, cfg QuarantineConfig) bus.Middleware {
	if store == nil {
		return nil
	}
	attempts, log := orDefault(cfg.Attempts, DefaultQuarantineAttempts), logger(cfg.Logger)
	put := func(ctx context.Context, d *bus.Delivery, cause error) error {
		if err := putSafely(ctx, store, d, cause); err != nil {
			// The verdict of the cause is not wrapped, for it does not speak about this error.
			return fmt.Errorf("middleware: quarantine: %w; the message failed with: %v", err, cause)
		}
		logDelivery(ctx, log, slog.LevelError, "middleware: message put into quarantine", d, cause)
		return bus.SetAside(cause)
	}
	return func(next bus.Handler) bus.Handler {
		h := func(ctx context.Context, d *bus.Delivery) error {
			if d.Attempt > attempts {
				return put(ctx, d, fmt.Errorf("%w (delivery %d, allowed: %d)", ErrAttempts, d.Attempt, attempts))
			}
			err := next(ctx, d)
			if err == nil || bus.IsSetAside(err) || halt.Interrupted(ctx, err) || d.Attempt < attempts && !bus.IsPermanent(err) {
				return err
			}
			return put(ctx, d, err)
		}
		if gate, ok := store.(Gate); ok {
			return gate.Gate(h)
		}
		return h
	}
}

// putSafely makes an error of a panic: Recover is further inside, and the message must come again.
func putSafely(ctx context.Context, store Quarantine, d *bus.Delivery, cause error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the store panicked: %v\n%s", p, debug.Stack())
		}
	}()
	return store.Put(ctx, d, cause)
}
