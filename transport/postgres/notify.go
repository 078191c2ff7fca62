package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/postbus/postbus/store"
)

// channel carries the names of topics that have new messages. All programs on a database share it.
const channel = "postbus"

// A connection that only listens does not notice that it has fallen silent: after listenCheck without a notice the server
// is asked for a sign of life, which may take listenPatience.
const listenCheck, listenPatience = 30 * time.Second, 10 * time.Second

// Listen makes a connection beside the pool, so that a small pool is not short of one, as the pool makes its own.
func (d *dialect) Listen(ctx context.Context, _ time.Duration, ready func(), heard func(string)) error {
	if !d.listen {
		return nil
	}
	var cfg *pgx.ConnConfig
	if err := d.conn(ctx, func(c *pgx.Conn) error { cfg = c.Config(); return nil }); err != nil {
		return err
	}
	cfg.OnNotification = nil // it is that of the connection of the pool
	c, err := pgx.ConnectConfig(ctx, cfg)
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
		wait, cancel := context.WithTimeout(ctx, listenCheck)
		n, err := c.WaitForNotification(wait)
		cancel()
		switch {
		case err == nil:
			heard(n.Payload)
		case ctx.Err() != nil || !pgconn.Timeout(err):
			return err
		default:
			asking, cancel := context.WithTimeout(ctx, listenPatience)
			err := c.Ping(asking)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

// Watches implements sqllog.Dialect.
func (d *dialect) Watches() bool { return false }

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
