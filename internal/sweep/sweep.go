// Package sweep removes rows that are too old from a table, in batches and by the way: by whoever adds rows to it, so that
// it needs no goroutine of its own. The table has the columns grp and id, its primary key, and at_ms, with an index.
package sweep

import (
	"context"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/store"
)

const (
	// batch is how many rows one statement removes.
	batch = 1000
	// batches is how many of them one call waits for, at most.
	batches = 5
	// least and most bound the time between two looks at what is too old; within them it is a hundredth of the retention.
	least, most = time.Second, 10 * time.Minute
)

// Sweep is of one table. Its methods may be called concurrently.
type Sweep struct {
	DB    *store.DB
	Table string
	// Retention is how old rows get; negative: any age.
	Retention time.Duration
	// Logger gets warnings, which begin with Prefix.
	Logger *slog.Logger
	Prefix string

	next atomic.Int64 // ns since 1970
}

// Run removes batches, if it is time.
func (s *Sweep) Run(ctx context.Context) {
	now := time.Now()
	next := s.next.Load()
	if s.Retention < 0 || now.UnixNano() < next {
		return
	}
	pause := min(max(s.Retention/100, least), most)
	if !s.next.CompareAndSwap(next, now.Add(pause).UnixNano()) {
		return
	}
	for range batches {
		n, err := s.remove(ctx, now.Add(-s.Retention))
		if err != nil && ctx.Err() == nil && !store.IsConflict(err) {
			s.Logger.Warn(s.Prefix+": old rows were not removed", "table", s.Table, "error", err)
		}
		if err != nil || n < batch {
			return
		}
	}
	s.next.Store(0) // there is more
}

func (s *Sweep) remove(ctx context.Context, before time.Time) (int64, error) {
	q := "DELETE FROM TABLE WHERE rowid IN (SELECT rowid FROM TABLE WHERE at_ms < ? ORDER BY at_ms LIMIT ?)"
	switch s.DB.Dialect() {
	case store.Postgres:
		q = `DELETE FROM TABLE WHERE (grp, id) IN
			(SELECT grp, id FROM TABLE WHERE at_ms < $1 ORDER BY at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)`
	case store.MySQL:
		q = "DELETE FROM TABLE WHERE at_ms < ? ORDER BY at_ms LIMIT ?"
	}
	res, err := s.DB.SQL().ExecContext(ctx, strings.ReplaceAll(q, "TABLE", s.Table), before.UnixMilli(), batch)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
