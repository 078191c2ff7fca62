package saga

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/outbox"
)

// keepHouse does what is due now and then. ended_ms tells what: of an instance it is when it ended, and of a tombstone the
// negative of when that goes.
func (o *Orchestrator) keepHouse(ctx context.Context) {
	if err := o.readClock(ctx); err != nil && ctx.Err() == nil {
		o.cfg.Logger.Warn("saga: the clock of the database was not read", "error", err)
	}
	if err := o.sweep(ctx); err != nil && ctx.Err() == nil {
		o.cfg.Logger.Warn("saga: instances that ended long ago were not removed", "error", err)
	}
	if err := o.census(ctx); err != nil && ctx.Err() == nil {
		o.cfg.Logger.Warn("saga: instances were not counted", "error", err)
	}
}

const (
	sweepBatch   = 500
	sweepBatches = 20
)

// sweep turns instances into tombstones, and removes tombstones, a bounded number at a time.
func (o *Orchestrator) sweep(ctx context.Context) error {
	for range sweepBatches {
		n := 0
		err := o.box.Tx(ctx, func(tx *outbox.Tx) error {
			n = 0
			now := o.now()
			if o.cfg.Retention >= 0 {
				old, err := o.ended(ctx, tx, "ended_ms > 0 AND ended_ms < ? AND due_ms IS NULL ORDER BY ended_ms", now-milli(o.cfg.Retention))
				if err != nil {
					return err
				}
				for _, of := range old {
					if err := o.bury(ctx, tx, of, now); err != nil {
						return err
					}
				}
				n += len(old)
			}
			old, err := o.ended(ctx, tx, "ended_ms < 0 AND ended_ms > ? ORDER BY ended_ms DESC", -now)
			if err != nil {
				return err
			}
			for _, of := range old {
				if _, err := tx.ExecContext(ctx, o.rows.bind("DELETE FROM postbus_saga WHERE saga = ? AND inst = ?"), of.saga, of.key); err != nil {
					return err
				}
			}
			n += len(old)
			return nil
		})
		if err != nil || n < sweepBatch {
			return err
		}
	}
	return nil
}

// bury leaves the tombstone of an instance.
func (o *Orchestrator) bury(ctx context.Context, tx *outbox.Tx, of instanceOf, now int64) error {
	if _, err := tx.ExecContext(ctx, o.rows.bind("DELETE FROM postbus_saga_journal WHERE saga = ? AND inst = ?"), of.saga, of.key); err != nil {
		return err
	}
	goes := now + milli(o.cfg.TombstoneRetention)
	if o.cfg.TombstoneRetention < 0 {
		goes = forEver
	}
	q := "UPDATE postbus_saga SET rev = 0, state = '', progress = '{}', error = '', ended_ms = ? WHERE saga = ? AND inst = ?"
	_, err := tx.ExecContext(ctx, o.rows.bind(q), -goes, of.saga, of.key)
	return err
}

// forEver is later than any time in ms.
const forEver = 1 << 60

func (o *Orchestrator) ended(ctx context.Context, tx *outbox.Tx, where string, ms int64) (list []instanceOf, err error) {
	q := fmt.Sprintf("SELECT saga, inst FROM postbus_saga WHERE %s LIMIT %d%s", where, sweepBatch, o.rows.forUpdate(true))
	found, err := tx.QueryContext(ctx, o.rows.bind(q), ms)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	for found.Next() {
		var of instanceOf
		if err := found.Scan(&of.saga, &of.key); err != nil {
			return nil, err
		}
		list = append(list, of)
	}
	return list, found.Err()
}

// Count is how many instances of a version have a status.
type Count struct {
	Saga    string
	Version int
	Status  Status
	N       int
	// Oldest is when the first of them started.
	Oldest time.Time
	// Known reports whether this program has the definition.
	Known bool
}

// Counts counts the instances that have not ended, for metrics. Its cost grows with their number.
func (o *Orchestrator) Counts(ctx context.Context) ([]Count, error) {
	list, err := o.box.DB().SQL().QueryContext(ctx, `SELECT saga, version, status, COUNT(*), MIN(started_ms) FROM postbus_saga
		WHERE ended_ms IS NULL GROUP BY saga, version, status ORDER BY saga, version, status`)
	if err != nil {
		return nil, fmt.Errorf("saga: count: %w", err)
	}
	defer list.Close()
	var counts []Count
	for list.Next() {
		var c Count
		var oldest int64
		if err := list.Scan(&c.Saga, &c.Version, &c.Status, &c.N, &oldest); err != nil {
			return nil, fmt.Errorf("saga: count: %w", err)
		}
		c.Oldest, c.Known = time.UnixMilli(oldest), o.definition(c.Saga, c.Version) != nil
		counts = append(counts, c)
	}
	return counts, list.Err()
}

// census reports the instances that this program cannot run.
func (o *Orchestrator) census(ctx context.Context) error {
	counts, err := o.Counts(ctx)
	for _, c := range counts {
		if !c.Known && c.Status != Stuck {
			o.cfg.Logger.Warn("saga: this program has no definition for instances that are in the database, and leaves them",
				"saga", c.Saga, "version", c.Version, "status", c.Status, "instances", c.N)
		}
	}
	return err
}
