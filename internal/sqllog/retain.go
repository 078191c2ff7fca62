package sqllog

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	// retainBatch is how many rows one statement removes.
	retainBatch = 1000
	// retainLeast and retainMost bound the time between sweeps; within them it is a tenth of the retention.
	retainLeast, retainMost = 50 * time.Millisecond, time.Hour
)

// retain removes what all groups have handled and what is older than the retention. Each instance sweeps; what another
// has removed costs a look.
func (l *Log) retain() {
	if l.cfg.Retention < 0 {
		return
	}
	pause := min(max(l.cfg.Retention/10, retainLeast), retainMost)
	for sleep(l.ctx, pause/2+rand.N(pause)) {
		l.mu.Lock()
		topics := make([]*Topic, 0, len(l.topics))
		for _, t := range l.topics {
			topics = append(topics, t)
		}
		l.mu.Unlock()
		for _, t := range topics {
			if err := l.sweep(l.ctx, t, l.cfg.Retention); err != nil && l.ctx.Err() == nil {
				l.cfg.Logger.Warn("postbus: old messages were not removed", "driver", l.d.Name(), "topic", t.Name, "error", err)
			}
		}
	}
}

// Sweep removes what all groups of a topic have handled, however young.
func (l *Log) Sweep(ctx context.Context, topic string) error {
	t, err := l.topic(ctx, topic)
	if err == nil {
		err = l.sweep(ctx, t, -time.Hour)
	}
	if err != nil {
		return l.errorf("sweep %q: %w", topic, err)
	}
	return nil
}

func (l *Log) sweep(ctx context.Context, t *Topic, retention time.Duration) error {
	asking, cancel := context.WithTimeout(ctx, ioTimeout)
	least, found, err := l.d.LowestOffset(asking, t)
	cancel()
	if err != nil || !found {
		return err // what no group has handled is kept
	}
	for {
		cutoff := time.UnixMilli(l.clock.now()).Add(-retention)
		deleting, cancel := context.WithTimeout(ctx, ioTimeout)
		n, err := l.d.DeleteThrough(deleting, t, least, cutoff, retainBatch)
		cancel()
		if err != nil || n < retainBatch {
			return err
		}
		if !sleep(ctx, 10*time.Millisecond) { // let others have the disk
			return ctx.Err()
		}
	}
}
