package sqlite

import (
	"context"
	"strings"
	"time"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
)

func (d *dialect) Append(ctx context.Context, b *sqllog.Batch) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	return sqllog.AppendAlone(ctx, d.db, d, b)
}

func (d *dialect) AppendTx(ctx context.Context, tx store.Execer, r *sqllog.Step) error {
	if len(r.Later) > 0 {
		return sqllog.AppendLater(ctx, tx, d, r, "(uuid, created_at) VALUES ('', '')")
	}
	now := time.Now().UTC().Format(timeFormat)
	const chunk = 200
	for first := 0; first < len(r.UUID); first += chunk {
		last := min(first+chunk, len(r.UUID))
		args := make([]any, 0, 4*(last-first))
		for i := first; i < last; i++ {
			args = append(args, r.UUID[i], now, r.Payload[i], r.Metadata[i])
		}
		q := "INSERT INTO " + d.Quote(r.Topic.Messages) + " (uuid, created_at, payload, metadata) VALUES " +
			strings.TrimSuffix(strings.Repeat("(?,?,?,?),", last-first), ",")
		if _, err := tx.ExecContext(ctx, q, args...); err != nil {
			return err
		}
	}
	return nil
}
