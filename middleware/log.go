package middleware

import (
	"context"
	"log/slog"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// LogConfig configures Log.
type LogConfig struct {
	// Logger gets the lines. Default: slog.Default() at the time of the call of Log.
	Logger *slog.Logger
	// Success is the level of deliveries without an error, of those that a stop of the bus has interrupted, and of those
	// that were set aside, which Quarantined reports itself. Default: slog.LevelDebug.
	Success slog.Leveler
	// Failure is the level of errors. Default: slog.LevelWarn.
	Failure slog.Leveler
	// Permanent is the level of errors that no repetition can mend. Default: slog.LevelError.
	Permanent slog.Leveler
}

// Log writes a line for each delivery: the event, id, group, topic, attempt, tries, duration and correlation id, and the
// error if there is one. A level that the logger leaves out costs a reading of the clock and nothing more. An error that it
// has written the bus does not log again; see bus.Delivery.Logged.
func Log(cfg LogConfig) bus.Middleware {
	log := logger(cfg.Logger)
	success, failure := level(cfg.Success, slog.LevelDebug), level(cfg.Failure, slog.LevelWarn)
	permanent := level(cfg.Permanent, slog.LevelError)
	built := time.Now() // time.Since reads one clock, time.Now two
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			begin := time.Since(built)
			err := next(ctx, d)
			at, text := success, "middleware: delivery handled"
			switch {
			case err == nil:
			case halt.Interrupted(ctx, err):
				text = "middleware: delivery interrupted by the stop of the bus"
			case bus.IsSetAside(err):
				text = "middleware: delivery set aside"
			case bus.IsPermanent(err):
				at, text = permanent, "middleware: delivery failed for good"
			default:
				at, text = failure, "middleware: delivery failed"
			}
			if l := at.Level(); log.Enabled(ctx, l) {
				logDelivery(ctx, log, l, text, d, err, slog.Duration("duration", time.Since(built)-begin))
				d.Logged = err != nil
			}
			return err
		}
	}
}

func logDelivery(ctx context.Context, log *slog.Logger, at slog.Level, text string, d *bus.Delivery, err error, more ...slog.Attr) {
	m := d.Message()
	attrs := append([]slog.Attr{
		slog.String("event", m.Name), slog.String("id", m.ID), slog.String("group", d.Group), slog.String("topic", d.Topic),
		slog.Int("attempt", d.Attempt), slog.Int("tries", d.Tries), slog.String("correlation_id", m.CorrelationID),
	}, more...)
	if err != nil {
		attrs = append(attrs, slog.Any("error", err))
	}
	log.LogAttrs(ctx, at, text, attrs...)
}

func logger(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.Default()
	}
	return l
}

func level(l slog.Leveler, otherwise slog.Level) slog.Leveler {
	if l == nil {
		return otherwise
	}
	return l
}
