package sqllog

import (
	"context"
	"sync/atomic"
	"time"
)

// clock knows the database's clock, in ms since 1970. A look at it costs a round trip, within which the moment that the
// answer tells of can be anywhere.
type clock struct {
	skew   atomic.Int64 // database clock minus ours, at least: with it, nothing is taken to be due too early
	likely atomic.Int64 // the same, as a best guess
}

// slowAnswer is how long an answer may take that still says when something is likely to be due.
const slowAnswer = time.Second

// answered takes an answer to a question that was asked at asked.
func (c *clock) answered(asked time.Time, now int64) {
	took := time.Since(asked)
	c.skew.Store(now - asked.Add(took).UnixMilli())
	if took < slowAnswer {
		c.likely.Store(now - asked.Add(took/2).UnixMilli())
	}
}

// now is the best guess.
func (c *clock) now() int64 { return time.Now().UnixMilli() + c.likely.Load() }

// measureSkew asks, and again if the answer is slow: a program may wait for long before it asks the next time.
func (l *Log) measureSkew(ctx context.Context) error {
	for range 3 {
		var now int64
		asked := time.Now()
		if err := l.db.QueryRowContext(ctx, "SELECT "+l.d.Now()).Scan(&now); err != nil {
			return err
		}
		l.clock.answered(asked, now)
		if time.Since(asked) < slowAnswer {
			return nil
		}
	}
	l.likely.Store(l.skew.Load())
	return nil
}
