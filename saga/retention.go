package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/outbox"
)

const (
	// housekeeping is how often the clock is read and the instances are counted, and the longest pause between two looks
	// for what is to be removed.
	housekeeping = time.Minute
	// sweepBatch is how many instances one transaction removes.
	sweepBatch = 500
)

// keepHouse does what is due now and then, until ctx ends.
func (o *Orchestrator) keepHouse(ctx context.Context) {
	var looked time.Time
	var from swept
	for ctx.Err() == nil {
		pause := o.sweepPause()
		if time.Since(looked) >= housekeeping {
			looked = time.Now()
			if err := o.readClock(ctx); err != nil && ctx.Err() == nil {
				o.cfg.Logger.Warn("saga: the clock of the database was not read", "error", err)
			}
			if err := o.forgetRequests(ctx); err != nil && ctx.Err() == nil {
				o.cfg.Logger.Warn("saga: commands that nobody waits for were not removed", "error", err)
			}
			if err := o.census(ctx); err != nil && ctx.Err() == nil {
				o.cfg.Logger.Warn("saga: instances were not counted", "error", err)
			}
		}
		more, err := o.sweep(ctx, &from)
		switch {
		case err != nil && ctx.Err() == nil:
			o.cfg.Logger.Warn("saga: instances that ended long ago were not removed", "error", err)
			pause = min(pause, o.cfg.PollInterval)
		case more:
			pause = 0
		}
		o.rest(ctx, nil, func() time.Duration { return pause })
	}
}

// forgetRequests removes what an Operator that was killed has left.
func (o *Orchestrator) forgetRequests(ctx context.Context) error {
	_, err := o.db.SQL().ExecContext(ctx, o.rows.dialect.Bind("DELETE FROM postbus_saga_command WHERE until_ms < ?"), o.now()-milli(commandPatience))
	return err
}

// sweepPause is a hundredth of what is kept for the shortest time, within bounds.
func (o *Orchestrator) sweepPause() time.Duration {
	pause := housekeeping
	for _, kept := range [...]time.Duration{o.cfg.Retention, o.cfg.TombstoneRetention} {
		if kept >= 0 {
			pause = min(pause, kept/100)
		}
	}
	return max(pause, min(o.cfg.PollInterval, housekeeping))
}

// swept is up to where instances that ended were looked at: those that are kept for a parent are passed over.
type swept struct {
	ended int64
	instanceOf
}

// sweep turns a batch of instances into tombstones, and removes a batch of tombstones. It reports whether there may be
// more of either. ended_ms tells what is due: of an instance it is when it ended, and of a tombstone the negative of when
// that goes.
func (o *Orchestrator) sweep(ctx context.Context, from *swept) (more bool, err error) {
	if o.cfg.Retention >= 0 {
		if more, err = o.buryAged(ctx, from); err != nil {
			return false, err
		}
	}
	gone, err := o.ended(ctx, "ended_ms < 0 AND ended_ms > ? ORDER BY ended_ms DESC", -o.now())
	if err != nil || len(gone) == 0 {
		return more, err
	}
	err = o.box.Tx(ctx, func(tx *outbox.Tx) error {
		return bySaga(gone, func(saga string, keys []any) error {
			return o.rows.of(ctx, tx, "DELETE FROM postbus_saga", saga, keys, " AND ended_ms < 0")
		})
	})
	return more || len(gone) == sweepBatch, err
}

// buryAged turns the next batch of instances that ended long ago into tombstones. One whose parent has not ended is left,
// for that may have to undo it.
func (o *Orchestrator) buryAged(ctx context.Context, from *swept) (more bool, err error) {
	now := o.now()
	old, err := o.ended(ctx, "ended_ms > 0 AND ended_ms < ? AND due_ms IS NULL AND (ended_ms > ? OR (ended_ms = ? AND (saga > ? OR (saga = ? AND inst > ?)))) ORDER BY ended_ms, saga, inst",
		now-milli(o.cfg.Retention), from.ended, from.ended, from.saga, from.saga, from.key)
	if err != nil || len(old) == 0 {
		*from = swept{}
		return false, err
	}
	goes := now + milli(o.cfg.TombstoneRetention)
	if o.cfg.TombstoneRetention < 0 {
		goes = forEver
	}
	err = o.box.Tx(ctx, func(tx *outbox.Tx) error {
		return bySaga(old, func(saga string, keys []any) error {
			free, err := o.free(ctx, tx, saga, keys)
			if err != nil || len(free) == 0 {
				return err
			}
			if err := o.rows.of(ctx, tx, "DELETE FROM postbus_saga_journal", saga, free, ""); err != nil {
				return err
			}
			return o.rows.of(ctx, tx, fmt.Sprintf("UPDATE postbus_saga SET rev = 0, state = '', progress = '{}', error = '', ended_ms = %d", -goes), saga, free, "")
		})
	})
	if err != nil {
		return false, err
	}
	if *from = old[len(old)-1]; len(old) < sweepBatch {
		*from = swept{}
	}
	return len(old) == sweepBatch, nil
}

// forEver is later than any time in ms.
const forEver = 1 << 60

// ended lists a batch of instances that have ended, without their locks.
func (o *Orchestrator) ended(ctx context.Context, where string, args ...any) (list []swept, err error) {
	q := fmt.Sprintf("SELECT saga, inst, ended_ms FROM postbus_saga WHERE %s LIMIT %d", where, sweepBatch)
	found, err := o.db.SQL().QueryContext(ctx, o.rows.dialect.Bind(q), args...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var s swept
		if err := found.Scan(&s.saga, &s.key, &s.ended); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, found.Err()
}

// free locks those of the instances that have ended still, and of whose ancestors all have.
func (o *Orchestrator) free(ctx context.Context, tx *outbox.Tx, saga string, keys []any) (free []any, err error) {
	q := "SELECT inst, origin FROM postbus_saga WHERE saga = ? AND inst IN (" + marks(len(keys)) + ") AND ended_ms > 0 AND due_ms IS NULL" + o.rows.forUpdate(true)
	found, err := tx.QueryContext(ctx, o.rows.dialect.Bind(q), append([]any{saga}, keys...)...)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	parents := map[string]origin{}
	for found.Next() {
		var key, text string
		if err := found.Scan(&key, &text); err != nil {
			return nil, err
		}
		var from origin
		if err := json.Unmarshal([]byte(text), &from); err != nil {
			return nil, fmt.Errorf("saga %q: instance %q: %w", saga, key, err)
		}
		if from.Parent == "" {
			free = append(free, key)
		} else {
			parents[key] = from
		}
	}
	if err := errors.Join(found.Err(), found.Close()); err != nil {
		return nil, err
	}
	for key, from := range parents {
		over, err := o.over(ctx, tx, from)
		if err != nil {
			return nil, err
		}
		if over {
			free = append(free, key)
		}
	}
	return free, nil
}

// over reports whether all ancestors of an instance have ended.
func (o *Orchestrator) over(ctx context.Context, tx *outbox.Tx, from origin) (bool, error) {
	for from.Parent != "" {
		r, err := o.rows.find(ctx, tx, from.Parent, from.ParentKey, false)
		if r == nil || err != nil {
			return err == nil, err
		}
		if !r.ended.Valid {
			return false, nil
		}
		from = origin{}
		if err := json.Unmarshal([]byte(r.origin), &from); err != nil {
			return false, fmt.Errorf("saga %q: instance %q: %w", r.saga, r.key, err)
		}
	}
	return true, nil
}

// bySaga calls f with the keys of each saga in list.
func bySaga(list []swept, f func(saga string, keys []any) error) error {
	keys := map[string][]any{}
	for _, s := range list {
		keys[s.saga] = append(keys[s.saga], s.key)
	}
	for _, saga := range slices.Sorted(maps.Keys(keys)) {
		if err := f(saga, keys[saga]); err != nil {
			return err
		}
	}
	return nil
}
