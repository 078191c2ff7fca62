package middleware

import (
	"context"

	"github.com/postbus/postbus/bus"
)

// CorrelationKey is the metadata key under which Watermill's middleware.CorrelationID keeps the correlation id.
const CorrelationKey = "correlation_id"

// Correlation gives a message that came without a correlation id, as those of foreign publishers do, the one in its
// metadata under CorrelationKey, or else its own id. What is further inside sees it in bus.Delivery, and the bus hands it
// on to what the handler publishes. The message itself is not changed; only one without the id costs a copy.
func Correlation() bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			if d.HasEnvelope() && d.Message().CorrelationID == "" {
				m := *d.Message()
				if m.CorrelationID = m.Metadata[CorrelationKey]; m.CorrelationID == "" {
					m.CorrelationID = m.ID
				}
				d.SetMessage(&m)
			}
			return next(ctx, d)
		}
	}
}
