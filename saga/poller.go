package saga

import (
	"context"
	"database/sql"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// mostWakes bounds the memory of what is due soonest. What is forgotten is found by PollInterval.
const mostWakes = 256

// wake has the poller look when due comes.
func (o *Orchestrator) wake(due int64) {
	o.mu.Lock()
	i, found := slices.BinarySearch(o.wakes, due)
	if !found && i < mostWakes {
		o.wakes = slices.Insert(o.wakes[:min(len(o.wakes), mostWakes-1)], i, due)
	}
	o.mu.Unlock()
	if i == 0 && !found {
		select {
		case o.nudge <- struct{}{}:
		default:
		}
	}
}

// forget drops what is due now: it is looked for now.
func (o *Orchestrator) forget(now int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for len(o.wakes) > 0 && o.wakes[0] <= now {
		o.wakes = o.wakes[1:]
	}
}

// sleep returns how long it is until the next look.
func (o *Orchestrator) sleep() time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	d := o.cfg.PollInterval
	if len(o.wakes) > 0 {
		d = min(d, max(0, time.Duration(o.wakes[0]-o.now())*time.Millisecond))
	}
	return d
}

// claim is an instance that the poller has picked up.
type claim struct {
	saga, key string
	rev       int64
}

// poll works on what is due until ctx ends; run is the context of the work.
func (o *Orchestrator) poll(ctx, run context.Context) {
	defer close(o.done)
	var working sync.WaitGroup
	defer working.Wait()
	working.Go(func() { o.keepHouse(ctx) })
	working.Go(func() { o.obey(ctx) })
	busy, released := atomic.Int64{}, make(chan struct{}, 1)
	work := func(c claim) {
		defer func() {
			busy.Add(-1)
			select {
			case released <- struct{}{}:
			default:
			}
		}()
		err := o.advance(run, c.saga, c.key, c.rev)
		if err == nil {
			return
		}
		o.release(run, c)
		if run.Err() == nil {
			o.cfg.Logger.Warn("saga: an instance is tried again later", "saga", c.saga, "instance", c.key, "error", err)
		}
	}
	for ctx.Err() == nil {
		o.forget(o.now())
		claims, more, err := o.claim(ctx, o.cfg.Workers-int(busy.Load()))
		if err != nil && ctx.Err() == nil {
			o.cfg.Logger.Warn("saga: the poller cannot look for instances that are due", "error", err)
		}
		for _, c := range claims {
			busy.Add(1)
			working.Go(func() { work(c) })
		}
		if !more {
			o.rest(ctx, o.nudge, o.sleep)
			continue
		}
		o.rest(ctx, released, func() time.Duration { return o.cfg.PollInterval })
		for 2*int(busy.Load()) > o.cfg.Workers && ctx.Err() == nil { // a few more, so that fewer claims are made
			if !o.rest(ctx, released, func() time.Duration { return together }) {
				break
			}
		}
	}
}

// obey carries out what Operators ask for, until ctx ends.
func (o *Orchestrator) obey(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := o.requested(ctx); err != nil && ctx.Err() == nil {
			o.cfg.Logger.Warn("saga: a command is tried again later", "error", err)
		}
		o.rest(ctx, nil, func() time.Duration { return o.cfg.PollInterval })
	}
}

// together is how long a free worker waits for others to be free.
const together = 2 * time.Millisecond

// rest returns after pause, or sooner when woken tells so or ctx ends. It reports whether it was woken.
func (o *Orchestrator) rest(ctx context.Context, woken <-chan struct{}, pause func() time.Duration) bool {
	timer := time.NewTimer(pause())
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-woken:
		return true
	}
	return false
}

// claim picks up instances that are due, n at most, and counts that in their rows. It reports whether there may be more.
func (o *Orchestrator) claim(ctx context.Context, n int) (claims []claim, more bool, err error) {
	for saga, versions := range o.defs {
		for version := range versions {
			if n <= len(claims) {
				return claims, true, nil
			}
			want := n - len(claims)
			var got []claim
			due, err := o.due(ctx, saga, version, want)
			if err != nil {
				return claims, false, err
			}
			if len(due) > 0 {
				err = o.box.Tx(ctx, func(tx *outbox.Tx) (err error) {
					got, err = o.take(ctx, tx, saga, due)
					return err
				})
			}
			if err != nil {
				return claims, false, err
			}
			claims = append(claims, got...)
			more = more || len(got) == want
		}
	}
	return claims, more, nil
}

// due lists instances that are due and, as far as the database can tell, not being worked on.
func (o *Orchestrator) due(ctx context.Context, saga string, version, n int) (keys []string, err error) {
	q := "SELECT inst FROM postbus_saga WHERE saga = ? AND version = ? AND due_ms <= ? ORDER BY due_ms LIMIT ?"
	if o.rows.dialect == store.Postgres {
		q += o.rows.forUpdate(true)
	}
	list, err := o.db.SQL().QueryContext(ctx, o.rows.dialect.Bind(q), saga, version, o.now(), n)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	for list.Next() {
		var key string
		if err := list.Scan(&key); err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, list.Err()
}

// take locks those of the instances that are still due and that nobody else has locked. They are locked by their primary
// key, so that on MySQL no gap of an index is.
func (o *Orchestrator) take(ctx context.Context, tx *outbox.Tx, saga string, keys []string) (claims []claim, err error) {
	args := []any{saga}
	for _, k := range keys {
		args = append(args, k)
	}
	now := o.now()
	q := "SELECT inst, rev FROM postbus_saga WHERE saga = ? AND inst IN (" + marks(len(keys)) + ") AND due_ms <= ?" + o.rows.forUpdate(true)
	list, err := tx.QueryContext(ctx, o.rows.dialect.Bind(q), append(args, now)...)
	if err != nil {
		return nil, err
	}
	defer list.Close()
	for list.Next() {
		c := claim{saga: saga}
		if err := list.Scan(&c.key, &c.rev); err != nil {
			return nil, err
		}
		claims = append(claims, c)
	}
	if err := list.Err(); err != nil || len(claims) == 0 {
		return nil, err
	}
	args = []any{sql.NullInt64{Int64: now + milli(o.grace), Valid: true}, saga}
	for _, c := range claims {
		args = append(args, c.key)
	}
	q = "UPDATE postbus_saga SET claims = claims + 1, due_ms = ? WHERE saga = ? AND inst IN (" + marks(len(claims)) + ")"
	_, err = tx.ExecContext(ctx, o.rows.dialect.Bind(q), args...)
	return claims, err
}

func marks(n int) string {
	b := make([]byte, 0, 2*n)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '?')
	}
	return string(b)
}
