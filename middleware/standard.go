package middleware

import (
	"time"

	"github.com/postbus/postbus/bus"
)

// StandardConfig configures Standard. Its zero value is useful: three tries in process, and no quarantine.
type StandardConfig struct {
	// Log configures Log, and its Logger that of Quarantined.
	Log LogConfig
	// Quarantine keeps messages that cannot be handled. Default: none; they come again for ever, ever more slowly.
	Quarantine Quarantine
	// Attempts is how many deliveries of a message may fail before it goes to Quarantine, each with as many tries as
	// Retry has. Default: DefaultQuarantineAttempts.
	Attempts int
	// Retry configures the retry in process. Default: that of RetryConfig; Attempts: 1 is none.
	Retry RetryConfig
	// Timeout is how long a single try may take. Default: no limit.
	Timeout time.Duration
}

// Standard builds the usual chain for bus.Config.Middleware. Outside in:
//
//   - Correlation, so that all others see the correlation id
//   - Log, which sees what becomes of the delivery
//   - Quarantined, if there is a store, which sees what Retry could not mend
//   - Retry
//   - Timeout, if there is one: each try has the whole time
//   - Recover, so that all others see a panic as an error
//
// Middleware of one group goes to bus.GroupConfig.Middleware and is inside of all these, so that it runs with each try.
// Its panics are recovered, too.
func Standard(cfg StandardConfig) []bus.Middleware {
	chain := []bus.Middleware{Correlation(), Log(cfg.Log)}
	if cfg.Quarantine != nil {
		chain = append(chain, Quarantined(cfg.Quarantine, QuarantineConfig{Attempts: cfg.Attempts, Logger: cfg.Log.Logger}))
	}
	chain = append(chain, Retry(cfg.Retry))
	if cfg.Timeout > 0 {
		chain = append(chain, Timeout(TimeoutConfig{Timeout: cfg.Timeout}))
	}
	return append(chain, Recover())
}
