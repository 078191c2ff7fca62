// Package dburl opens the databases that URLs name, for package store and for the SQL transports, which add parameters
// of their own to the same URLs.
package dburl

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postbus/postbus/internal/params"
)

// Target is a database that can be opened.
type Target struct {
	// Dialect is "postgres", "mysql" or "sqlite".
	Dialect string
	open    func(ctx context.Context) (Handle, error)
}

// Handle is an opened database. Pool is nil except on PostgreSQL, where DB is a view of it.
type Handle struct {
	DB   *sql.DB
	Pool *pgxpool.Pool
}

// Close closes what Open opened.
func (h Handle) Close() error {
	err := h.DB.Close()
	if h.Pool != nil {
		h.Pool.Close()
	}
	return err
}

// Read reads the parts of u and makes the database's parameters known to r, whose Err the caller reports. It does no
// I/O. No error holds the password.
func Read(u *url.URL, r *params.Reader) (Target, error) {
	switch u.Scheme {
	case "postgres", "postgresql":
		return postgres(u, r)
	case "mysql":
		return mySQL(u, r)
	case "sqlite":
		return sqlite(u, r)
	}
	return Target{}, fmt.Errorf("scheme %q names no database; known: postgres, postgresql, mysql, sqlite", u.Scheme)
}

// Open opens the database and asks it for a sign of life.
func (t Target) Open(ctx context.Context) (Handle, error) {
	h, err := t.open(ctx)
	if err != nil {
		return Handle{}, err
	}
	if err := h.DB.PingContext(ctx); err != nil {
		_ = h.Close()
		return Handle{}, fmt.Errorf("connect: %w", err)
	}
	return h, nil
}
