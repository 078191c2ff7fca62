package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/store"
)

// channel carries the names of topics that have new messages. All programs on a database share it.
const channel = "postbus"

// Listen uses a connection beside the pool, so that a small pool is not short of one. On the caller's own *sql.DB or
// pool it takes none, and polls.
func (d *dialect) Listen(ctx context.Context, _ time.Duration, ready func(), heard func(string)) error {
	if d.own == nil {
		return nil
	}
	c, err := pgx.ConnectConfig(ctx, d.own.Copy())
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = c.Close(ctx)
	}()
	if _, err := c.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	ready()
	for {
		n, err := c.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		heard(n.Payload)
	}
}

// Listens implements sqllog.Dialect.
func (d *dialect) Listens() bool { return d.own != nil }

// NotifyTx sends text when tx commits.
func (d *dialect) NotifyTx(ctx context.Context, tx store.Execer, text string) error {
	_, err := tx.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, text)
	return err
}

// Notify sends texts in one transaction, which need not reach the disk: what it tells of is there already.
func (d *dialect) Notify(ctx context.Context, texts []string) error {
	_, err := d.db.ExecContext(ctx, "WITH c AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) SELECT pg_notify($1, t) FROM c, unnest($2::text[]) AS t", channel, texts)
	return err
}
