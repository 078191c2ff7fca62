package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
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

func newDialect(ctx context.Context, db *store.DB, listen bool) (*dialect, error) {
	if db.Dialect() != store.Postgres {
		return nil, fmt.Errorf("postgres: the database is of dialect %s", db.Dialect())
	}
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
		return nil, fmt.Errorf("postgres: %w", err)
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

func (d *dialect) Name() string                 { return "postgres" }
func (d *dialect) UpperCase() bool              { return true }
func (d *dialect) MaxPayload() int              { return 128 << 20 }
func (d *dialect) Now() string                  { return sqltext.Now(store.Postgres) }
func (d *dialect) Bind(query string) string     { return sqltext.Bind(store.Postgres, query) }
func (d *dialect) InsertIgnore(q string) string { return q + " ON CONFLICT DO NOTHING" }
func (d *dialect) SkipLocked() string           { return "FOR UPDATE SKIP LOCKED" }
func (d *dialect) Quote(s string) string        { return pgx.Identifier{s}.Sanitize() }
func (d *dialect) Writing() func()              { return func() {} }
func (d *dialect) Prompt() bool                 { return false } // the horizon can be behind
func (d *dialect) Close() error                 { return nil }

func (d *dialect) Class(err error) sqllog.Class {
	var e *pgconn.PgError
	var connect *pgconn.ConnectError
	switch {
	case errors.As(err, &e):
		switch class := e.Code[:2]; {
		case class == "22", class == "23": // data, constraints
			return sqllog.BadData
		case e.Code == "40003", strings.HasPrefix(class, "08"):
			return sqllog.Unknown
		case class == "57": // the server went down, perhaps after the commit
			return sqllog.Unknown
		}
		return sqllog.Refused
	case errors.As(err, &connect), pgconn.SafeToRetry(err):
		return sqllog.NotSent
	}
	return sqllog.Unknown
}

// Prepare makes the tables as watermill-sql does, under its lock.
func (d *dialect) Prepare(ctx context.Context, t *sqllog.Topic, json bool) error {
	found, err := d.probe(ctx, t)
	if err != nil {
		return err
	}
	if !found {
		if err := d.create(ctx, t, json); err != nil {
			return fmt.Errorf("make tables: %w", err)
		}
		if found, err = d.probe(ctx, t); err != nil || !found {
			return fmt.Errorf("table %q was made and is not found: %w", t.Messages, err)
		}
	}
	return d.checkOrigin(ctx, t)
}

func (d *dialect) create(ctx context.Context, t *sqllog.Topic, json bool) error {
	kind := "JSON"
	if !json {
		kind = "BYTEA"
	}
	messages := wsql.DefaultPostgreSQLSchema{
		GenerateMessagesTableName: func(string) string { return d.Quote(t.Messages) },
		GeneratePayloadType:       func(string) string { return kind },
	}
	offsets := wsql.DefaultPostgreSQLOffsetsAdapter{
		GenerateMessagesOffsetsTableName: func(string) string { return d.Quote(t.Offsets) },
	}
	a, err := messages.SchemaInitializingQueries(wsql.SchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	b, err := offsets.SchemaInitializingQueries(wsql.OffsetsSchemaInitializingQueriesParams{Topic: t.Name})
	if err != nil {
		return err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, q := range append(a, b...) {
		if _, err := tx.ExecContext(ctx, q.Query, q.Args...); err != nil {
			return err
		}
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO postbus_topics (topic, messages, offsets, origin) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
		t.Name, t.Messages, t.Offsets, d.origin); err != nil {
		return err
	}
	return tx.Commit()
}

// columns are what watermill-sql's tables have, and of which type.
var columns = [2]map[string]string{
	{"offset": "bigint", "uuid": "character varying", "created_at": "timestamp without time zone", "payload": "", "metadata": "json", "transaction_id": "xid8"},
	{"consumer_group": "character varying", "offset_acked": "bigint", "last_processed_transaction_id": "xid8"},
}

// probe reports whether the tables are there; it is an error if they are and are not watermill-sql's.
func (d *dialect) probe(ctx context.Context, t *sqllog.Topic) (bool, error) {
	found := 0
	for i, table := range []string{t.Messages, t.Offsets} {
		rows, err := d.db.QueryContext(ctx, `SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a
			WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped`, d.Quote(table))
		if err != nil {
			return false, err
		}
		has := map[string]string{}
		for rows.Next() {
			var name, kind string
			if err := rows.Scan(&name, &kind); err != nil {
				_ = rows.Close()
				return false, err
			}
			has[name] = kind
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return false, err
		}
		if len(has) == 0 {
			continue
		}
		found++
		for name, kind := range columns[i] {
			if has[name] == "" || kind != "" && has[name] != kind {
				return false, fmt.Errorf("table %q %w: column %q is %q", table, sqllog.ErrForeignTable, name, has[name])
			}
		}
		if i == 0 {
			switch has["payload"] {
			case "json", "jsonb":
				t.JSON = true
			case "bytea":
			default:
				return false, fmt.Errorf("table %q %w: column %q is %q, not json, jsonb or bytea", table, sqllog.ErrForeignTable, "payload", has["payload"])
			}
		}
	}
	return found == 2, nil
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

func (d *dialect) Offset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string) (p sqllog.Pos, found bool, err error) {
	var off sql.NullInt64
	err = q.QueryRowContext(ctx, "SELECT last_processed_transaction_id::text::bigint, offset_acked FROM "+d.Quote(t.Offsets)+
		" WHERE consumer_group = $1", consumer).Scan(&p.Tx, &off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	p.Off = off.Int64
	return p, err == nil, err
}

func (d *dialect) CreateOffset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string, at sqllog.Pos) error {
	_, err := q.ExecContext(ctx, "INSERT INTO "+d.Quote(t.Offsets)+
		" (consumer_group, offset_acked, last_processed_transaction_id) VALUES ($1, $2, $3::text::xid8) ON CONFLICT DO NOTHING",
		consumer, at.Off, strconv.FormatUint(at.Tx, 10))
	return err
}

func (d *dialect) LowestOffset(ctx context.Context, t *sqllog.Topic) (p sqllog.Pos, found bool, err error) {
	err = d.db.QueryRowContext(ctx, "SELECT last_processed_transaction_id::text::bigint, coalesce(offset_acked, 0) FROM "+d.Quote(t.Offsets)+
		" ORDER BY last_processed_transaction_id, offset_acked NULLS FIRST LIMIT 1").Scan(&p.Tx, &p.Off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	return p, err == nil, err
}

func (d *dialect) Save(ctx context.Context, q sqllog.Querier, s *sqllog.Save) (bool, error) {
	owner := s.Owner
	if s.Lease == 0 {
		owner = ""
	}
	res, err := q.ExecContext(ctx, `WITH l AS (
			UPDATE postbus_groups SET state = $1, owner = $2, expires_ms = `+d.Now()+` + $3
			WHERE topic = $4 AND grp = $5 AND part = $6 AND token = $7 RETURNING 1)
		UPDATE `+d.Quote(s.Topic.Offsets)+` SET offset_acked = $8, last_processed_transaction_id = $9::text::xid8
		WHERE consumer_group = $10 AND EXISTS (SELECT 1 FROM l)`,
		s.State, owner, s.Lease.Milliseconds(), s.Topic.Name, s.Group, s.Part, s.Token,
		s.Offset.Off, strconv.FormatUint(s.Offset.Tx, 10), s.Consumer)
	if err != nil {
		return false, err
	}
	n, err := res.RowsAffected()
	return n > 0, err
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
