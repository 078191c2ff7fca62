package bus

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/postbus/postbus/transport"
)

// done takes the outcome of a task of worker n. It returns the next task if there is one at hand.
func (c *consumer) done(n int, t *task, err error) *task {
	var delay time.Duration
	var left bool
	setAside := err != nil && IsSetAside(err)
	givenBack := err != nil && !setAside && c.givesBack(err)
	if err != nil && !setAside && !givenBack {
		delay, left = c.report(t, err)
	}
	c.mu.Lock()
	c.current[n] = nil
	if c.cfg.Delivery == AtMostOnce {
		c.unsettled--
	}
	switch {
	case err == nil:
		c.handled++
		c.settle(t.tag, transport.Ack)
		c.leaveKey(t)
	case setAside:
		c.setAside++
		c.settle(t.tag, transport.Ack)
		c.leaveKey(t)
	case left:
		c.failed++
		c.settle(t.tag, transport.Ack)
		c.leaveKey(t)
	case givenBack:
		c.settle(t.tag, transport.Release)
	case c.cfg.Delivery == AtMostOnce:
		c.failed++
		c.leaveKey(t)
	default:
		c.failed++
		c.hold(t, delay)
	}
	if c.ctx.Err() != nil { // finish settles the rest, unless it has given this handler up
		c.mu.Unlock()
		return nil
	}
	// While settling fails, it is the timer that tries again.
	flush := c.flushErrs == 0 &&
		(len(c.settlements) >= flushSize || (len(c.settlements) > 0 && c.next == len(c.ready)))
	if !flush && len(c.settlements) > 0 {
		c.armFlush()
	}
	var next *task
	if !flush {
		next = c.pop(n)
	}
	c.mu.Unlock()
	if flush {
		_ = c.flush(c.ctx) // it logs, and tries again
	}
	return next
}

// givesBack reports whether err came from a stop, and the message is neither handled nor tried in vain.
func (c *consumer) givesBack(err error) bool {
	if c.cfg.Delivery == AtMostOnce {
		return false
	}
	return c.ctx.Err() != nil || c.fetching.Err() != nil && errors.Is(err, ErrStopped)
}

// report logs why a task failed and returns the pause before it comes again, and whether it has left the group until
// then. It is called without the lock, for loggers and errors are the program's code.
func (c *consumer) report(t *task, err error) (delay time.Duration, left bool) {
	attrs, at := []any{"event", t.Message().Name, "id", t.Message().ID}, slog.LevelInfo
	if t.Logged {
		at = slog.LevelDebug
	} else {
		attrs = append(attrs, "error", err)
	}
	if c.cfg.Delivery == AtMostOnce {
		c.log.Error("bus: handling failed; the message is lost, as at most once allows", attrs...)
		return 0, false
	}
	delay, asked := RetryDelay(err)
	if !asked {
		delay = c.backoff(t.Attempt)
	}
	c.log.Log(t, at, "bus: handling failed; the message comes again", append(attrs, "attempt", t.Attempt, "after", delay)...)
	return delay, asked && delay > stayFor && c.leave(t, delay)
}

const (
	// stayFor is the longest delay after RetryAfter that a message waits out in its place.
	stayFor = time.Second
	// leaveTimeout bounds the hand-over of a message that leaves.
	leaveTimeout = 10 * time.Second
)

// leave has the transport bring the message of t again later, to this group alone, and reports whether it will. The
// message that is in hand can then be acknowledged. After a crash in between both come.
func (c *consumer) leave(t *task, delay time.Duration) bool {
	if c.again == nil {
		return false
	}
	m := t.delivered
	if m == nil {
		m = t.letter.Message()
	}
	again := *m
	again.TargetGroup, again.NotBefore, again.Attempts = c.group, time.Now().Add(delay), t.Attempt
	ctx, cancel := context.WithTimeout(t, leaveTimeout)
	defer cancel()
	if err := c.again(ctx, c.topic, []transport.Message{again}); err != nil {
		c.log.Warn("bus: the message could not be handed over for later, and waits in its place",
			"event", m.Name, "id", m.ID, "error", err)
		return false
	}
	return true
}

// hold has a failed task come again after a while. Meanwhile its key waits.
func (c *consumer) hold(t *task, delay time.Duration) {
	if c.closed {
		return
	}
	h := &hold{task: t}
	c.held[t] = h
	h.timer = time.AfterFunc(delay, func() { c.unhold(h) })
}

// backoff returns a random pause from MinBackoff to twice that, and from there on up to MaxBackoff twice as much with
// each attempt.
func (c *consumer) backoff(attempt int) time.Duration {
	low, high := c.cfg.MinBackoff, c.cfg.MaxBackoff
	for ; attempt > 1 && low <= high/2; attempt-- {
		low *= 2
	}
	if low <= high/2 {
		high = 2 * low
	} else {
		low = max(c.cfg.MinBackoff, high/2)
	}
	return low + rand.N(high-low+1)
}

// hold is a failed task that waits for its time to come again.
type hold struct {
	task  *task
	timer *time.Timer
}

func (c *consumer) unhold(h *hold) {
	c.mu.Lock()
	if c.held[h.task] != h {
		c.mu.Unlock()
		return
	}
	delete(c.held, h.task)
	c.settle(h.task.tag, transport.Requeue)
	c.returnKey(h.task)
	c.mu.Unlock()
	_ = c.flush(c.ctx)
}
