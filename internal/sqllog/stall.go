package sqllog

import (
	"context"
	"time"
)

// stallRepeat is the least time between two warnings about one topic.
const stallRepeat = time.Minute

// watchStalls warns when a transaction in the database keeps this process's groups from reading on.
func (l *Log) watchStalls() {
	warned := map[string]time.Time{}
	for sleep(l.ctx, max(l.cfg.StallAfter/2, 10*time.Millisecond)) {
		for t, after := range l.reading() {
			ctx, cancel := context.WithTimeout(l.ctx, ioTimeout)
			stall, err := l.d.Stall(ctx, t, after)
			cancel()
			if err != nil || stall == nil || stall.Age < l.cfg.StallAfter || time.Since(warned[t.Name]) < stallRepeat {
				continue
			}
			warned[t.Name] = time.Now()
			l.cfg.Logger.Warn("postbus: an open transaction in the database holds messages back; end it, or they wait",
				"driver", l.d.Name(), "topic", t.Name, "pid", stall.PID, "age", stall.Age.Round(time.Millisecond))
		}
	}
}

// reading returns the topics that this process consumes, each with the least position that a consumer has read to.
func (l *Log) reading() map[*Topic]Pos {
	l.mu.Lock()
	subs := make([]*Subscription, 0, len(l.subs))
	for s := range l.subs {
		subs = append(subs, s)
	}
	l.mu.Unlock()
	at := map[*Topic]Pos{}
	for _, s := range subs {
		s.mu.Lock()
		for _, c := range s.consumers {
			if c.w == nil {
				continue
			}
			if p, seen := at[s.t]; !seen || c.w.readPos.before(p) {
				at[s.t] = c.w.readPos
			}
		}
		s.mu.Unlock()
	}
	return at
}
