// Package store is one handle for a database: the connection, its dialect, and the migrations of what lives in it. The
// SQL transports, the outbox, the inbox, sagas and the quarantine share it.
//
//	db, err := store.Open(ctx, "postgres://…")   // opened here, closed by db.Close
//	db := store.Use(yourDB, store.Postgres)      // yours; db.Close leaves it open
package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/postbus/postbus/internal/dburl"
	"github.com/postbus/postbus/internal/params"
)

// Dialect is the kind of a database.
type Dialect uint8

// The dialects. MySQL is MariaDB as well.
const (
	Postgres Dialect = iota + 1
	MySQL
	SQLite
)

// String returns "postgres", "mysql" or "sqlite".
func (d Dialect) String() string {
	switch d {
	case Postgres:
		return "postgres"
	case MySQL:
		return "mysql"
	case SQLite:
		return "sqlite"
	}
	return fmt.Sprintf("Dialect(%d)", uint8(d))
}

// Bind returns a query whose arguments are written "?" as the database wants them: "$1", "$2" and so on on PostgreSQL. It
// does not look for quotes: the query has no other "?".
func (d Dialect) Bind(query string) string {
	if d != Postgres {
		return query
	}
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, found := strings.Cut(query, "?")
		b.WriteString(before)
		if !found {
			return b.String()
		}
		b.WriteString("$" + strconv.Itoa(n))
		query = after
	}
}

// DB is a database handle. Its methods may be called concurrently.
type DB struct {
	sql     *sql.DB
	pool    *pgxpool.Pool
	dialect Dialect
	close   func() error
	turn    chan struct{} // holds one while Tx writes, on SQLite
}

// Open opens the database that rawURL names and asks it for a sign of life; ctx bounds that. The caller closes the
// handle. No error holds the password.
//
//	postgres://user:password@host/database?pool_max_conns=8   and the parameters of libpq
//	mysql://user:password@host/database?tls=true              also socket, timeout, read_timeout, write_timeout, pool_max_conns
//	sqlite:FILE, sqlite::memory:                              busy_timeout, synchronous (full), max_page_count
func Open(ctx context.Context, rawURL string) (*DB, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("store: open: not a URL (its text is withheld, for it can hold a password)")
	}
	db, err := OpenParsed(ctx, u, params.Read(u))
	if err != nil {
		return nil, fmt.Errorf("store: open %s: %w", redact(u), err)
	}
	return db, nil
}

// OpenParsed is Open for the drivers of package transport, which have read parameters of their own from r.
func OpenParsed(ctx context.Context, u *url.URL, r *params.Reader) (*DB, error) {
	target, err := dburl.Read(u, r)
	if err = errors.Join(err, r.Err()); err != nil {
		return nil, err
	}
	h, err := target.Open(ctx)
	if err != nil {
		return nil, err
	}
	db := &DB{sql: h.DB, pool: h.Pool, close: h.Close, turn: make(chan struct{}, 1)}
	switch target.Dialect {
	case "postgres":
		db.dialect = Postgres
	case "mysql":
		db.dialect = MySQL
	case "sqlite":
		db.dialect = SQLite
	}
	return db, nil
}

func redact(u *url.URL) string {
	stripped := *u
	if i := strings.Index(stripped.RawQuery, "password"); i >= 0 {
		stripped.RawQuery = ""
	}
	return stripped.Redacted()
}

// Use makes a handle of the caller's database, which stays the caller's to close. On PostgreSQL the driver must be pgx's
// (package pgx/v5/stdlib). On SQLite the database should be in WAL mode, with a busy_timeout and _txlock=immediate; on
// MySQL, the driver's option clientFoundRows must be on.
func Use(db *sql.DB, d Dialect) *DB {
	return &DB{sql: db, dialect: d, close: func() error { return nil }, turn: make(chan struct{}, 1)}
}

// UsePool makes a handle of the caller's pool of PostgreSQL connections, which stays the caller's to close.
func UsePool(pool *pgxpool.Pool) *DB {
	db := stdlib.OpenDBFromPool(pool)
	return &DB{sql: db, pool: pool, dialect: Postgres, close: db.Close}
}

// SQL returns the database itself.
func (db *DB) SQL() *sql.DB { return db.sql }

// Pool returns the pool of PostgreSQL connections under SQL, or nil if there is none.
func (db *DB) Pool() *pgxpool.Pool { return db.pool }

// Dialect returns the kind of the database.
func (db *DB) Dialect() Dialect { return db.dialect }

// Close closes the database if Open opened it.
func (db *DB) Close() error { return db.close() }

// Execer is what transactions of most packages have, *sql.Tx among them.
type Execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
}

// Querier is what *sql.DB, *sql.Conn and *sql.Tx have in common.
type Querier interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}
