package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/internal/sqllog"
)

// copyFrom is from how many rows on COPY is worth its round trips.
const copyFrom = 2000

// copyRows writes many rows of one log by COPY, which spares the server a statement's execution.
func (d *dialect) copyRows(ctx context.Context, c *pgx.Conn, r *sqllog.Rows) error {
	tx, err := c.Begin(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	var id uint64
	var now time.Time
	if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id(), clock_timestamp() AT TIME ZONE 'UTC'").Scan(&id, &now); err != nil {
		return err
	}
	i := -1
	row := make([]any, 5)
	row[1], row[4] = now, id
	source := copySource(func() ([]any, bool) {
		if i++; i == len(r.UUID) {
			return nil, false
		}
		row[0], row[2] = r.UUID[i], r.Metadata[i]
		if row[3] = nil; r.Payload[i] != nil {
			row[3] = r.Payload[i]
		}
		return row, true
	})
	_, err = tx.CopyFrom(ctx, pgx.Identifier{r.Topic.Messages}, []string{"uuid", "created_at", "metadata", "payload", "transaction_id"}, source)
	if err != nil {
		return err
	}
	return tx.Commit(ctx)
}

// copySource returns a source of the rows that next gives, until it has no more.
func copySource(next func() ([]any, bool)) pgx.CopyFromSource {
	return pgx.CopyFromFunc(func() ([]any, error) {
		row, ok := next()
		if !ok {
			return nil, nil
		}
		return row, nil
	})
}
