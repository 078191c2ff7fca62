package mysql

import (
	"context"
	"strings"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/store"
)

// Append retries where InnoDB broke a deadlock: nothing was written then.
func (d *dialect) Append(ctx context.Context, b *sqllog.Batch) (err error) {
	for range 5 {
		if err = d.appendOnce(ctx, b); !isNumber(err, errDeadlock) {
			return err
		}
	}
	return err
}

func (d *dialect) appendOnce(ctx context.Context, b *sqllog.Batch) error {
	if len(b.Steps) == 1 && len(b.Steps[0].Later) == 0 {
		if q, args, rest := d.insert(&b.Steps[0].Rows, 0); rest == len(b.Steps[0].UUID) {
			_, err := d.db.ExecContext(ctx, q, args...)
			return err
		}
	}
	return sqllog.AppendAlone(ctx, d.db, d, b)
}

func (d *dialect) AppendTx(ctx context.Context, tx store.Execer, r *sqllog.Step) error {
	if len(r.Later) > 0 {
		return sqllog.AppendLater(ctx, tx, d, r, "(`uuid`) VALUES ('')")
	}
	for i := 0; i < len(r.UUID); {
		q, args, next := d.insert(&r.Rows, i)
		if _, err := tx.ExecContext(ctx, q, args...); err != nil {
			return err
		}
		i = next
	}
	return nil
}

// insert makes a statement of as many rows as a packet takes well, from first on, and returns the row after them.
func (d *dialect) insert(r *sqllog.Rows, first int) (string, []any, int) {
	const most = 1000
	i, bytes := first, 0
	var args []any
	for ; i < len(r.UUID) && i-first < most; i++ {
		if bytes += len(r.Payload[i]) + len(r.Metadata[i]); i > first && bytes > d.maxPayload/2 {
			break
		}
		var payload any
		switch p := r.Payload[i]; {
		case p == nil:
		case r.Topic.JSON: // bytes would be of the character set "binary", which JSON is not
			payload = string(p)
		default:
			payload = p
		}
		args = append(args, r.UUID[i], payload, r.Metadata[i])
	}
	return "INSERT INTO " + d.Quote(r.Topic.Messages) + " (`uuid`, `payload`, `metadata`) VALUES " +
		strings.TrimSuffix(strings.Repeat("(?,?,?),", i-first), ","), args, i
}
