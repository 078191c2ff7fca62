package bus

import (
	"context"
	"time"

	"github.com/postbus/postbus/transport"
)

// settle notes the outcome of a delivery, to go to the transport with the next flush.
func (c *consumer) settle(tag uint64, outcome transport.Outcome) {
	if c.cfg.Delivery == AtMostOnce {
		return // settled when it was received
	}
	c.settlements = append(c.settlements, transport.Settlement{Tag: tag, Outcome: outcome})
}

// armFlush has a flush happen within flushDelay.
func (c *consumer) armFlush() {
	if c.flushArmed {
		return
	}
	c.flushArmed = true
	c.flushAfter(flushDelay)
}

func (c *consumer) flushAfter(d time.Duration) {
	if c.flushTimer == nil {
		c.flushTimer = time.AfterFunc(d, func() {
			c.mu.Lock()
			c.flushArmed = false
			closed := c.closed
			c.mu.Unlock()
			if !closed {
				_ = c.flush(c.ctx)
			}
		})
		return
	}
	c.flushTimer.Reset(d)
}

// flush hands the settlements to the transport. One call does so at a time and takes along what others add meanwhile;
// those return at once. After an error the settlements are kept, and tried again a little later.
func (c *consumer) flush(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.flushing && len(c.settlements) > 0 {
		batch, returning := c.settlements, c.returning
		c.settlements, c.spare, c.returning = c.spare[:0], nil, nil
		c.flushing = true
		c.mu.Unlock()
		err := c.sub.Settle(ctx, batch)
		c.mu.Lock()
		c.flushing = false
		if c.stopping {
			c.work.Broadcast() // finish may wait for this flush to end
		}
		if err != nil {
			c.settlements = append(batch, c.settlements...)
			c.returning = append(returning, c.returning...)
			if !c.closed {
				c.log.Warn("bus: settle failed, trying again", "messages", len(batch), "error", err)
				c.flushArmed = true
				c.flushAfter(c.backoff(1 + min(c.flushErrs, 30)))
				c.flushErrs++
			}
			return err
		}
		c.spare = batch
		c.flushErrs = 0
		c.unsettled -= len(batch)
		c.keysReturned(returning)
		c.work.Signal() // a worker may wait for room to receive
	}
	return nil
}
