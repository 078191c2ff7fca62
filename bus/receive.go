package bus

import (
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

// receive fetches a batch and makes it ready. It is called with the lock, which it gives up while it waits.
func (c *consumer) receive() {
	c.receiving, c.inReceive = true, true
	ctx, max := c.receiveCtx, min(receiveMax, c.cfg.Prefetch-c.unsettled)
	c.mu.Unlock()
	batch, err := c.sub.Receive(ctx, max)
	if err == nil && c.cfg.Delivery == AtMostOnce {
		batch = c.ackFirst(batch)
	}
	c.mu.Lock()
	c.inReceive = false
	c.admit(batch)
	if c.halted {
		c.rest.Broadcast()
	}
	switch {
	case err == nil:
		c.receiveErrs = 0
	case ctx.Err() == nil:
		c.receiveErrs++
		c.receiveErr = err
		failures := c.receiveErrs
		c.mu.Unlock()
		c.pause(err, failures)
		c.mu.Lock()
	}
	c.receiving = false
	// One for each task but the one that this worker takes, and one that receives next.
	for range min(len(c.ready)-c.next, c.workers-1) {
		c.work.Signal()
	}
}

// pause waits before the next Receive after one failed.
func (c *consumer) pause(err error, failures int) {
	if errors.Is(err, transport.ErrClosed) {
		c.log.Error("bus: the subscription was closed from outside; the group stops", "error", err)
		c.fail(fmt.Errorf("bus: group %q on topic %q: the subscription was closed from outside: %w", c.group, c.topic, err))
		<-c.fetching.Done()
		return
	}
	c.log.Warn("bus: receive failed, trying again", "error", err)
	c.wait(c.backoff(failures))
}

// wait returns after d, and false if the consumer stops before.
func (c *consumer) wait(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-c.fetching.Done():
		return false
	}
}

// ackFirst acknowledges a batch before it is handled. Until that has worked nothing of it is handled, and it is tried
// again, for the transport counts the batch as in hand. If the consumer stops before, the batch goes back.
func (c *consumer) ackFirst(batch []transport.Delivery) []transport.Delivery {
	acks := make([]transport.Settlement, len(batch))
	for i := range batch {
		acks[i] = transport.Settlement{Tag: batch[i].Tag, Outcome: transport.Ack}
	}
	for failures := 1; ; failures++ {
		err := c.sub.Settle(c.ctx, acks)
		if err == nil {
			return batch
		}
		c.log.Warn("bus: acknowledge before handling failed; the messages are not handled now", "error", err)
		if errors.Is(err, transport.ErrClosed) || !c.wait(c.backoff(failures)) {
			return nil
		}
	}
}

// admit turns a batch into tasks: ready, or behind others of the same key.
func (c *consumer) admit(batch []transport.Delivery) {
	var tasks []task
	c.batches++
	for i := range batch {
		if len(tasks) == 0 {
			tasks = make([]task, min(tasksPerAlloc, len(batch)-i))
		}
		t, d := &tasks[0], &batch[i]
		tasks = tasks[1:]
		t.Context, t.tag = c.ctx, d.Tag
		t.Topic, t.Group, t.Attempt, t.Batch, t.publisher = c.topic, c.group, d.Attempt, c.batches, c.publisher
		if t.delivered = d.Message; d.Message == nil {
			var ours bool
			if t.letter, ours = d.Lazy.(*letter); !ours { // published past the bus, onto the transport
				t.delivered = d.Lazy.Message()
			}
		}
		if t.delivered != nil {
			t.SetMessage(t.delivered)
		}
		c.unsettled++
		c.admitted++
		t.number = c.admitted
		switch key := t.key(); {
		case c.stopping && c.cfg.Delivery == AtLeastOnce:
			if c.keys[key] == nil { // else it goes back at the end, after those of its key that are in hand
				c.release(t)
			}
		case key == "" || c.enterKey(key, t):
			c.makeReady(t)
		}
	}
	if len(c.settlements) > 0 && c.next == len(c.ready) && !c.flushing {
		c.armFlush() // only releases: no worker will come by
	}
}

func (c *consumer) makeReady(t *task) {
	if c.next == len(c.ready) {
		c.ready, c.next = c.ready[:0], 0
	}
	c.ready = append(c.ready, t)
}
