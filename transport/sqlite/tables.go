package sqlite

import (
	"context"
	"errors"
	"fmt"
	"strings"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
)

func (d *dialect) Prepare(ctx context.Context, t *sqllog.Topic, _ bool) error {
	messages, offsets := d.Quote(t.Messages), d.Quote(t.Offsets)
	var n int
	err := d.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM sqlite_master WHERE type = 'table' AND name IN (?, ?)", t.Messages, t.Offsets).Scan(&n)
	if err != nil {
		return err
	}
	if n < 2 {
		d.writing.Lock()
		defer d.writing.Unlock()
		if err := d.PrepareTx(ctx, d.db, t); err != nil {
			return err
		}
	}
	for _, q := range []string{
		`SELECT "offset", uuid, created_at, payload, metadata FROM ` + messages + " WHERE 0",
		"SELECT consumer_group, offset_acked FROM " + offsets + " WHERE 0",
	} {
		rows, err := d.db.QueryContext(ctx, q)
		var e *driver.Error
		if errors.As(err, &e) && e.Code() == sqlite3.SQLITE_ERROR {
			err = fmt.Errorf("table %q %w: %w", t.Messages, sqllog.ErrForeignTable, err)
		}
		if err != nil {
			return err
		}
		if err := rows.Close(); err != nil {
			return err
		}
	}
	return nil
}

// PrepareTx makes the tables within the caller's transaction, which holds up every other writer.
func (d *dialect) PrepareTx(ctx context.Context, tx store.Execer, t *sqllog.Topic) error {
	for _, q := range []string{
		"CREATE TABLE IF NOT EXISTS " + d.Quote(t.Messages) + ` (
			"offset" INTEGER PRIMARY KEY AUTOINCREMENT,
			uuid TEXT NOT NULL,
			created_at TEXT NOT NULL,
			payload BLOB,
			metadata JSON
		)`,
		"CREATE TABLE IF NOT EXISTS " + d.Quote(t.Offsets) + ` (
			consumer_group TEXT NOT NULL,
			offset_acked INTEGER NOT NULL,
			locked_until INTEGER NOT NULL DEFAULT 0,
			PRIMARY KEY (consumer_group)
		)`,
		"INSERT INTO postbus_topics (topic, messages, offsets) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
	} {
		args := []any{}
		if strings.HasPrefix(q, "INSERT") {
			args = []any{t.Name, t.Messages, t.Offsets}
		}
		if _, err := tx.ExecContext(ctx, q, args...); err != nil {
			return fmt.Errorf("make table: %w", err)
		}
	}
	return nil
}
