package middleware

import (
	"time"

	"github.com/postbus/postbus/bus"
)

// StandardConfig configures Standard. Its zero value is useful: three tries in process, and no quarantine.
type StandardConfig struct {
	// KillSwitch pauses a group that fails too often. Default: none.
	KillSwitch *KillSwitch
	// Telemetry measures and traces, as that of package middleware/telemetry does. Default: none.
	Telemetry bus.Middleware
	// Log configures Log, and its Logger that of Quarantined.
	Log LogConfig
	// Quarantine keeps messages that cannot be handled. Default: none; they come again for ever, ever more slowly, or
	// after the last of Delays.
	Quarantine Quarantine
	// Attempts is how many deliveries of a message may fail before it goes to Quarantine, each with as many tries as
	// Retry has. Default: one more than there are Delays; without those, DefaultQuarantineAttempts.
	Attempts int
	// Delays are the pauses between deliveries of a message that fails, see DelayedRetryConfig. Default: those of the bus,
	// bus.GroupConfig.MinBackoff and MaxBackoff, which hold up the key.
	Delays []time.Duration
	// Dedup passes over messages that were handled before, as that of package middleware/dedup does. Default: none.
	Dedup bus.Middleware
	// Retry configures the retry in process, and the rules by error. Default: that of RetryConfig; Attempts: 1 is none.
	Retry RetryConfig
	// Timeout is how long a single try may take. Default: no limit.
	Timeout time.Duration
}

// Standard builds the usual chain for bus.Config.Middleware. Outside in:
//
//   - KillSwitch, if there is one, so that what waits for a paused group is nobody else's time
//   - Telemetry, if there is any, which sees all the rest
//   - Correlation, so that all others see the correlation id
//   - Log, which sees what becomes of the delivery
//   - Quarantined, if there is a store, which sees what no retry could mend
//   - DelayedRetry, if there are delays, which sees what Retry could not mend
//   - Dedup, if there is one: it asks once per delivery, and sees whether it was handled in the end
//   - Retry
//   - Timeout, if there is one: each try has the whole time
//   - Recover, so that all others see a panic as an error
//
// Middleware of one group goes to bus.GroupConfig.Middleware and is inside of all these, so that it runs with each try.
// Its panics are recovered, too.
func Standard(cfg StandardConfig) []bus.Middleware {
	var chain []bus.Middleware
	if cfg.KillSwitch != nil {
		chain = append(chain, cfg.KillSwitch.Middleware)
	}
	if cfg.Telemetry != nil {
		chain = append(chain, cfg.Telemetry)
	}
	chain = append(chain, Correlation(), Log(cfg.Log))
	last := 0 // delivery, if any
	if cfg.Quarantine != nil {
		last = orDefault(cfg.Attempts, DefaultQuarantineAttempts)
		if cfg.Attempts <= 0 && len(cfg.Delays) > 0 {
			last = len(cfg.Delays) + 1
		}
		chain = append(chain, Quarantined(cfg.Quarantine, QuarantineConfig{Attempts: last, Logger: cfg.Log.Logger}))
	}
	if len(cfg.Delays) > 0 {
		chain = append(chain, DelayedRetry(DelayedRetryConfig{Delays: cfg.Delays, Attempts: last}))
	}
	if cfg.Dedup != nil {
		chain = append(chain, cfg.Dedup)
	}
	chain = append(chain, Retry(cfg.Retry))
	if cfg.Timeout > 0 {
		chain = append(chain, Timeout(TimeoutConfig{Timeout: cfg.Timeout}))
	}
	return append(chain, Recover())
}
