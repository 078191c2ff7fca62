package outbox

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"time"

	"github.com/postbus/postbus/store"
)

// enter notes that group handles the message, in tx, and reports whether it is the first to do so. While another
// transaction has noted the same and is not over, it waits for it.
func (b *Box) enter(ctx context.Context, tx *Tx, group, id string) (first bool, err error) {
	q := "INSERT INTO postbus_inbox (grp, id, at_ms) VALUES (?, ?, ?) ON CONFLICT DO NOTHING"
	switch b.db.Dialect() {
	case store.Postgres:
		q = "INSERT INTO postbus_inbox (grp, id, at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING"
	case store.MySQL:
		q = "INSERT IGNORE INTO postbus_inbox (grp, id, at_ms) VALUES (?, ?, ?)"
	}
	res, err := tx.ExecContext(ctx, q, group, inboxID(id), time.Now().UnixMilli())
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// longestID is the longest id that is kept as it is; all ids of Postbus are shorter.
const longestID = 200

// inboxID fits any id into the column.
func inboxID(id string) string {
	if len(id) <= longestID {
		return id
	}
	h := sha256.Sum256([]byte(id))
	return id[:longestID-2*len(h)] + hex.EncodeToString(h[:])
}

const (
	// sweepBatch is how many rows of the inbox one statement removes.
	sweepBatch = 1000
	// sweepBatches is how many batches one delivery waits for, at most.
	sweepBatches = 5
	// sweepLeast and sweepMost bound the time between two looks at what is too old; within them it is a hundredth of the
	// retention.
	sweepLeast, sweepMost = time.Second, 10 * time.Minute
)

// sweep removes batches of what the inbox need not know any more, if it is time. Whoever has handled a message does it:
// where none is handled, no row is added.
func (b *Box) sweep(ctx context.Context) {
	now := time.Now()
	next := b.nextSweep.Load()
	if b.cfg.InboxRetention < 0 || now.UnixNano() < next {
		return
	}
	pause := min(max(b.cfg.InboxRetention/100, sweepLeast), sweepMost)
	if !b.nextSweep.CompareAndSwap(next, now.Add(pause).UnixNano()) {
		return
	}
	for range sweepBatches {
		n, err := b.removeHandled(ctx, now.Add(-b.cfg.InboxRetention))
		if err != nil && ctx.Err() == nil && !store.IsConflict(err) {
			b.cfg.Logger.Warn("outbox: old rows of the inbox were not removed", "error", err)
		}
		if err != nil || n < sweepBatch {
			return
		}
	}
	b.nextSweep.Store(0) // there is more
}

func (b *Box) removeHandled(ctx context.Context, before time.Time) (int64, error) {
	q := "DELETE FROM postbus_inbox WHERE rowid IN (SELECT rowid FROM postbus_inbox WHERE at_ms < ? ORDER BY at_ms LIMIT ?)"
	switch b.db.Dialect() {
	case store.Postgres:
		q = `DELETE FROM postbus_inbox WHERE (grp, id) IN
			(SELECT grp, id FROM postbus_inbox WHERE at_ms < $1 ORDER BY at_ms LIMIT $2 FOR UPDATE SKIP LOCKED)`
	case store.MySQL:
		q = "DELETE FROM postbus_inbox WHERE at_ms < ? ORDER BY at_ms LIMIT ?"
	}
	res, err := b.db.SQL().ExecContext(ctx, q, before.UnixMilli(), sweepBatch)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}
