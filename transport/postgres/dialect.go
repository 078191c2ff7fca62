package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/store"
)

// dialect is PostgreSQL. A log is in the order of (transaction_id, offset), and is read below the oldest transaction
// that still runs, for only there no row can appear any more.
type dialect struct {
	db     *sql.DB
	pool   *pgxpool.Pool // nil on a caller's *sql.DB
	listen bool
	origin string // identifies the server whose transaction ids are current
}

func newDialect(ctx context.Context, db *store.DB, listen bool) (sqllog.Dialect, error) {
	d := &dialect{db: db.SQL(), pool: db.Pool(), listen: listen}
	err := d.conn(ctx, func(c *pgx.Conn) error {
		var version int
		if err := c.QueryRow(ctx, "SELECT current_setting('server_version_num')::int").Scan(&version); err != nil {
			return err
		}
		if version < 130000 {
			return fmt.Errorf("the server is of version %d; 13 is the oldest that has 64-bit transaction ids", version/10000)
		}
		// Nobody but a superuser of an old server lacks the right to this function.
		if err := c.QueryRow(ctx, "SELECT system_identifier::text FROM pg_control_system()").Scan(&d.origin); err != nil {
			d.origin = "unknown"
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// conn lends a connection of pgx's.
func (d *dialect) conn(ctx context.Context, f func(*pgx.Conn) error) error {
	if d.pool != nil {
		c, err := d.pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer c.Release()
		return f(c.Conn())
	}
	c, err := d.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.Raw(func(raw any) error {
		std, ok := raw.(*stdlib.Conn)
		if !ok {
			return fmt.Errorf("the *sql.DB is of driver %T; it must be of github.com/jackc/pgx/v5/stdlib", raw)
		}
		return f(std.Conn())
	})
}

func (d *dialect) Name() string { return "postgres" }

func (d *dialect) UpperCase() bool { return true }

func (d *dialect) MaxPayload() int { return 128 << 20 }

func (d *dialect) Now() string { return sqltext.Now(store.Postgres) }

func (d *dialect) Bind(query string) string { return sqltext.Bind(store.Postgres, query) }

func (d *dialect) InsertIgnore(q string) string { return q + " ON CONFLICT DO NOTHING" }

func (d *dialect) SkipLocked() string { return "FOR UPDATE SKIP LOCKED" }

func (d *dialect) Quote(s string) string { return pgx.Identifier{s}.Sanitize() }

func (d *dialect) Writing() func() { return func() {} }

func (d *dialect) Prompt() bool { return false } // the horizon can be behind

func (d *dialect) Close() error { return nil }

func (d *dialect) Class(err error) sqllog.Class {
	var e *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &connect): // before what the server answered then: it is starting, or has too many clients
		return sqllog.NotSent
	case errors.As(err, &e):
		switch class := e.Code[:2]; {
		case class == "22", class == "23", class == "54": // data, constraints, limits such as the depth of JSON
			return sqllog.BadData
		case e.Code == "40003", strings.HasPrefix(class, "08"):
			return sqllog.Unknown
		case class == "57": // the server went down, perhaps after the commit
			return sqllog.Unknown
		}
		return sqllog.Refused
	case pgconn.SafeToRetry(err):
		return sqllog.NotSent
	}
	return sqllog.Unknown
}

func (d *dialect) End(ctx context.Context, t *sqllog.Topic) (sqllog.Pos, []sqllog.Pos, error) {
	// Transactions that run now commit after this: they come. What is committed and beyond the horizon is there already.
	var p sqllog.Pos
	var beyond []sqllog.Pos
	err := d.conn(ctx, func(c *pgx.Conn) error {
		rows, err := c.Query(ctx, `WITH h AS (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS x)
			SELECT (x::text::bigint - 1), 9223372036854775807 FROM h
			UNION ALL
			SELECT * FROM (SELECT m.transaction_id::text::bigint, m."offset" FROM h, `+d.Quote(t.Messages)+` m
				WHERE m.transaction_id >= h.x ORDER BY m.transaction_id, m."offset") late`)
		if err != nil {
			return err
		}
		defer rows.Close()
		for i := 0; rows.Next(); i++ {
			var q sqllog.Pos
			if err := rows.Scan(&q.Tx, &q.Off); err != nil {
				return err
			}
			if i == 0 {
				p = q
			} else {
				beyond = append(beyond, q)
			}
		}
		return rows.Err()
	})
	return p, beyond, err
}

func (d *dialect) DeleteThrough(ctx context.Context, t *sqllog.Topic, last sqllog.Pos, cutoff time.Time, limit int) (int, error) {
	res, err := d.db.ExecContext(ctx, `WITH old AS (
			SELECT transaction_id AS x, "offset" AS o, created_at AS c FROM `+d.Quote(t.Messages)+`
			WHERE (transaction_id, "offset") <= ($1::text::xid8, $2) ORDER BY transaction_id, "offset" LIMIT $3),
		young AS (SELECT x, o FROM old WHERE c >= ($4::timestamptz AT TIME ZONE 'UTC') ORDER BY x, o LIMIT 1)
		DELETE FROM `+d.Quote(t.Messages)+` m USING old
		WHERE m.transaction_id = old.x AND m."offset" = old.o
		AND NOT EXISTS (SELECT 1 FROM young WHERE (old.x, old.o) >= (young.x, young.o))`,
		strconv.FormatUint(last.Tx, 10), last.Off, limit, cutoff)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}
