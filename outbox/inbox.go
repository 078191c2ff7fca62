package outbox

import (
	"context"
	"time"

	"github.com/postbus/postbus/internal/sqltext"
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
	res, err := tx.ExecContext(ctx, q, group, sqltext.Fit(id), time.Now().UnixMilli())
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
}
