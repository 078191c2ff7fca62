package saga

import (
	"context"
	"fmt"
	"time"
)

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
	list, err := o.db.SQL().QueryContext(ctx, `SELECT saga, version, status, COUNT(*), MIN(started_ms) FROM postbus_saga
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
