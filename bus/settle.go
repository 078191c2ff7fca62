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
	if c.closed { // finish does it
		return nil
	}
	return c.flushLocked(ctx)
}

// flushLocked is flush for who holds the lock; it gives it up while it waits.
func (c *consumer) flushLocked(ctx context.Context) error {
	for !c.flushing && len(c.settlements) > 0 {
		c.flushing = true
		if len(c.returning) > 0 {
			c.haltReceiving()
		}
		batch, returning := c.settlements, c.returning
		c.settlements, c.spare, c.returning = c.spare[:0], nil, nil
		c.mu.Unlock()
		err := c.sub.Settle(ctx, batch)
		if err != nil {
			c.log.Warn("bus: settle failed", "messages", len(batch), "error", err)
		}
		c.mu.Lock()
		c.flushing, c.halted = false, false
		c.rest.Broadcast()
		c.work.Signal() // a worker may wait to receive
		if err != nil {
			c.settlements = append(batch, c.settlements...)
			c.returning = append(returning, c.returning...)
			c.flushErrs++
			c.flushErr = err
			if !c.closed {
				c.flushArmed = true
				c.flushAfter(c.backoff(min(c.flushErrs, 30)))
			}
			return err
		}
		c.spare = batch
		c.flushErrs = 0
		c.unsettled -= len(batch)
		c.keysReturned(returning)
	}
	return nil
}

// haltReceiving interrupts Receive and lets none begin before the next settlements have arrived. What it brings of the
// keys that go back goes back with them: were it fetched before that and admitted after, it would be out of order.
func (c *consumer) haltReceiving() {
	c.halted = true
	if !c.inReceive {
		return
	}
	c.interrupt()
	for c.inReceive && !c.stopping {
		c.rest.Wait()
	}
	c.receiveCtx, c.interrupt = context.WithCancel(c.fetching)
}
