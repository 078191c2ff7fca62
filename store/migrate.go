package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"regexp"
	"sync"
	"time"

	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// ErrNewerSchema is matched by the error of [DB.Migrate] when the database was migrated by a newer program.
var ErrNewerSchema = errors.New("store: newer schema")

// Schema is a set of migrations that belong together. Each has a version of its own in the database.
type Schema struct {
	// Name is lower-case letters, digits and underscores, at most 30; the version is kept in the table
	// postbus_<name>_version. Required.
	Name string
	// Files has a folder per dialect, "postgres", "mysql" and "sqlite", of goose's SQL migrations: "00001_begin.sql".
	Files fs.FS
}

var schemaName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,29}$`)

// migrating holds concurrent calls of one process in line, so that on small pools no call waits for a connection while
// the holder of the lock needs a second one.
var migrating sync.Mutex

// Migrate brings schema up to date. It may be called by many instances of a program at once: one migrates, under a lock
// in the database, and the others wait for it. A database whose schema is newer than the program knows is left as it
// is, and the error matches [ErrNewerSchema].
func (db *DB) Migrate(ctx context.Context, schema Schema) error {
	if !schemaName.MatchString(schema.Name) {
		return fmt.Errorf("store: schema name %q must be lower-case letters, digits and underscores, at most 30", schema.Name)
	}
	migrating.Lock()
	defer migrating.Unlock()
	var err error
	for range 20 {
		if err = db.migrate(ctx, schema); err == nil || db.dialect != SQLite || errors.Is(err, ErrNewerSchema) || ctx.Err() != nil {
			break
		}
		// SQLite has no lock to hold across transactions: an instance that lost the race sees the winner's work next time.
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	if err != nil {
		return fmt.Errorf("store: migrate %q: %w", schema.Name, err)
	}
	return nil
}

func (db *DB) migrate(ctx context.Context, schema Schema) error {
	files, err := fs.Sub(schema.Files, db.dialect.String())
	if err != nil {
		return err
	}
	table := "postbus_" + schema.Name + "_version"
	options := []goose.ProviderOption{goose.WithTableName(table), goose.WithDisableGlobalRegistry(true)}
	dialect := map[Dialect]goose.Dialect{
		Postgres: database.DialectPostgres, MySQL: database.DialectMySQL, SQLite: database.DialectSQLite3,
	}[db.dialect]
	if db.dialect != SQLite {
		options = append(options, goose.WithSessionLocker(locker{db.dialect, table}))
	}
	p, err := goose.NewProvider(dialect, db.sql, files, options...)
	if err != nil {
		return err
	}
	if done, err := upToDate(ctx, db, p, table); done || err != nil {
		return err
	}
	_, err = p.Up(ctx)
	if err != nil {
		return err
	}
	_, err = upToDate(ctx, db, p, table)
	return err
}

// upToDate looks at the version without writing, so that a program with nothing to migrate needs no right to.
func upToDate(ctx context.Context, db *DB, p *goose.Provider, table string) (bool, error) {
	var version sql.NullInt64
	if err := db.sql.QueryRowContext(ctx, "SELECT MAX(version_id) FROM "+table).Scan(&version); err != nil {
		return false, ctx.Err() // most likely there is no such table yet; Up tells, if it is something else
	}
	sources := p.ListSources()
	known := sources[len(sources)-1].Version
	if version.Int64 > known {
		return false, fmt.Errorf("%w: the database is at version %d, this program knows up to %d; start a newer program",
			ErrNewerSchema, version.Int64, known)
	}
	return version.Int64 == known, nil
}

// locker is the lock around migrations: an advisory lock of the connection.
type locker struct {
	dialect Dialect
	name    string
}

var _ lock.SessionLocker = locker{}

func (l locker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	if l.dialect == Postgres {
		_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1)", l.key())
		return err
	}
	var got sql.NullInt64
	if err := conn.QueryRowContext(ctx, "SELECT GET_LOCK(?, 300)", l.name).Scan(&got); err != nil {
		return err
	}
	if got.Int64 != 1 {
		return fmt.Errorf("another instance holds the migration lock %q for more than 5 minutes", l.name)
	}
	return nil
}

func (l locker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	q, arg := "DO RELEASE_LOCK(?)", any(l.name)
	if l.dialect == Postgres {
		q, arg = "SELECT pg_advisory_unlock($1)", any(l.key())
	}
	_, err := conn.ExecContext(ctx, q, arg)
	return err
}

func (l locker) key() int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(l.name))
	return int64(h.Sum64())
}
