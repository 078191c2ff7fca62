package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	driver "modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/store"
)

// timeFormat is how created_at is written, in UTC; it sorts as text.
const timeFormat = "2006-01-02 15:04:05.000000"

// dialect is SQLite: one writer at a time, so that offsets are in the order of commits.
type dialect struct {
	db *sql.DB
	// writing holds the writers of this process in line; SQLite itself would let them sleep and try again.
	writing *sync.Mutex
	file    bool
}

// writers has a lock for each file.
var writers sync.Map

func newDialect(ctx context.Context, db *store.DB) (sqllog.Dialect, error) {
	if db.Dialect() != store.SQLite {
		return nil, fmt.Errorf("sqlite: the database is of dialect %s", db.Dialect())
	}
	d := &dialect{db: db.SQL(), writing: &sync.Mutex{}}
	var file string
	if err := d.db.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file); err != nil {
		return nil, fmt.Errorf("sqlite: %w", err)
	}
	if file != "" {
		lock, _ := writers.LoadOrStore(file, d.writing)
		d.writing, d.file = lock.(*sync.Mutex), true
	}
	return d, nil
}

func (d *dialect) Writing() func() {
	d.writing.Lock()
	return d.writing.Unlock
}

func (d *dialect) Name() string                 { return "sqlite" }
func (d *dialect) UpperCase() bool              { return false }
func (d *dialect) MaxPayload() int              { return 256 << 20 }
func (d *dialect) Now() string                  { return sqltext.Now(store.SQLite) }
func (d *dialect) Bind(query string) string     { return query }
func (d *dialect) InsertIgnore(q string) string { return q + " ON CONFLICT DO NOTHING" }
func (d *dialect) SkipLocked() string           { return "" }
func (d *dialect) Quote(s string) string        { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
func (d *dialect) Prompt() bool                 { return true }
func (d *dialect) Close() error                 { return nil }

func (d *dialect) Class(err error) sqllog.Class {
	var e *driver.Error
	if !errors.As(err, &e) {
		return sqllog.Refused // in process: a context that ended, a closed database; nothing was committed
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_CONSTRAINT:
		return sqllog.BadData
	case sqlite3.SQLITE_IOERR:
		return sqllog.Unknown
	}
	return sqllog.Refused
}

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

func (d *dialect) Append(ctx context.Context, b *sqllog.Batch) error {
	d.writing.Lock()
	defer d.writing.Unlock()
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, s := range b.Steps {
		if err := d.AppendTx(ctx, tx, s); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func (d *dialect) AppendTx(ctx context.Context, tx store.Execer, r *sqllog.Step) error {
	if len(r.Later) > 0 {
		if r.Placed {
			if err := d.place(ctx, tx, r); err != nil {
				return err
			}
		}
		return sqllog.InsertLater(ctx, tx, d, r.Later)
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

// place takes offsets for rows that are not in the log.
func (d *dialect) place(ctx context.Context, tx store.Execer, s *sqllog.Step) error {
	messages := d.Quote(s.Topic.Messages)
	for i := range s.Later {
		res, err := tx.ExecContext(ctx, "INSERT INTO "+messages+" (uuid, created_at) VALUES ('', '')")
		if err != nil {
			return err
		}
		if s.Later[i].Pos.Off, err = res.LastInsertId(); err != nil {
			return err
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM "+messages+` WHERE "offset" = ?`, s.Later[i].Pos.Off); err != nil {
			return err
		}
	}
	return nil
}

func (d *dialect) Bound(t *sqllog.Topic) string {
	return `max((SELECT COALESCE(MAX("offset"), 0) FROM ` + d.Quote(t.Messages) + `), (SELECT COALESCE(MAX(pos_off), 0) FROM postbus_later WHERE topic = ?))`
}

func (d *dialect) Within(p sqllog.Pos, bound int64) bool { return p.Off <= bound }

func (d *dialect) Read(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, bound int64, limit int) ([]sqllog.Row, bool, error) {
	rows, err := d.rows(ctx, t, `"offset" > ? AND "offset" <= ? ORDER BY "offset" LIMIT ?`, after.Off, bound, limit)
	return rows, len(rows) == limit, err
}

func (d *dialect) Since(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, since time.Time, limit int) ([]sqllog.Row, error) {
	return d.rows(ctx, t, `"offset" > ? AND created_at >= ? ORDER BY "offset" LIMIT ?`, after.Off, since.UTC().Format(timeFormat), limit)
}

func (d *dialect) ReadAt(ctx context.Context, t *sqllog.Topic, at []sqllog.Pos) ([]sqllog.Row, error) {
	var all []sqllog.Row
	for len(at) > 0 {
		n := min(500, len(at))
		args := make([]any, n)
		for i, p := range at[:n] {
			args[i] = p.Off
		}
		rows, err := d.rows(ctx, t, `"offset" IN (`+strings.TrimSuffix(strings.Repeat("?,", n), ",")+`) ORDER BY "offset"`, args...)
		if err != nil {
			return nil, err
		}
		all, at = append(all, rows...), at[n:]
	}
	return all, nil
}

func (d *dialect) rows(ctx context.Context, t *sqllog.Topic, where string, args ...any) ([]sqllog.Row, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT "offset", uuid, payload, metadata, created_at FROM `+d.Quote(t.Messages)+" WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []sqllog.Row
	for rows.Next() {
		var r sqllog.Row
		var metadata, created sql.RawBytes
		if err := rows.Scan(&r.Pos.Off, &r.UUID, &r.Payload, &metadata, &created); err != nil {
			return nil, err
		}
		r.Metadata = append(r.Metadata, metadata...)
		r.Created, _ = time.Parse(timeFormat, string(created))
		out = append(out, r)
	}
	return out, rows.Err()
}

func (d *dialect) End(ctx context.Context, t *sqllog.Topic) (sqllog.Pos, []sqllog.Pos, error) {
	var p sqllog.Pos
	err := d.db.QueryRowContext(ctx, `SELECT COALESCE(MAX("offset"), 0) FROM `+d.Quote(t.Messages)).Scan(&p.Off)
	return p, nil, err
}

func (d *dialect) DeleteThrough(ctx context.Context, t *sqllog.Topic, last sqllog.Pos, cutoff time.Time, limit int) (int, error) {
	d.writing.Lock()
	defer d.writing.Unlock()
	q := `WITH old AS (SELECT "offset" AS o, created_at AS c FROM ` + d.Quote(t.Messages) + ` WHERE "offset" <= ? ORDER BY "offset" LIMIT ?)
		DELETE FROM ` + d.Quote(t.Messages) + ` WHERE "offset" < COALESCE((SELECT MIN(o) FROM old WHERE c >= ?), (SELECT MAX(o) + 1 FROM old), 0)`
	res, err := d.db.ExecContext(ctx, q, last.Off, limit, cutoff.UTC().Format(timeFormat))
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	return int(n), err
}

func (d *dialect) Lag(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, limit int) (int, time.Duration, error) {
	var n int
	var oldest sql.NullString
	q := `SELECT COUNT(*), MIN(created_at) FROM (SELECT created_at FROM ` + d.Quote(t.Messages) + ` WHERE "offset" > ? LIMIT ?)`
	if err := d.db.QueryRowContext(ctx, q, after.Off, limit).Scan(&n, &oldest); err != nil || n == 0 {
		return 0, 0, err
	}
	at, err := time.Parse(timeFormat, oldest.String)
	if err != nil {
		return n, 0, nil //nolint:nilerr // a foreign row; its age is not known
	}
	return n, time.Since(at), nil
}

func (d *dialect) Stall(context.Context, *sqllog.Topic, sqllog.Pos) (*sqllog.Stall, error) {
	return nil, nil
}

func (d *dialect) Offset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string) (p sqllog.Pos, found bool, err error) {
	err = q.QueryRowContext(ctx, "SELECT offset_acked FROM "+d.Quote(t.Offsets)+" WHERE consumer_group = ?", consumer).Scan(&p.Off)
	if errors.Is(err, sql.ErrNoRows) {
		return p, false, nil
	}
	return p, err == nil, err
}

func (d *dialect) CreateOffset(ctx context.Context, q sqllog.Querier, t *sqllog.Topic, consumer string, at sqllog.Pos) error {
	_, err := q.ExecContext(ctx, "INSERT INTO "+d.Quote(t.Offsets)+" (consumer_group, offset_acked, locked_until) VALUES (?, ?, 0) ON CONFLICT DO NOTHING",
		consumer, at.Off)
	return err
}

func (d *dialect) LowestOffset(ctx context.Context, t *sqllog.Topic) (sqllog.Pos, bool, error) {
	var least sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT MIN(offset_acked) FROM "+d.Quote(t.Offsets)).Scan(&least)
	return sqllog.Pos{Off: least.Int64}, least.Valid, err
}

func (d *dialect) Save(ctx context.Context, q sqllog.Querier, s *sqllog.Save) (bool, error) {
	if db, ok := q.(*sql.DB); ok {
		d.writing.Lock()
		defer d.writing.Unlock()
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return false, err
		}
		defer func() { _ = tx.Rollback() }()
		if ok, err := d.Save(ctx, tx, s); err != nil || !ok {
			return ok, err
		}
		return true, tx.Commit()
	}
	owner := s.Owner
	if s.Lease == 0 {
		owner = ""
	}
	res, err := q.ExecContext(ctx, "UPDATE postbus_groups SET state = ?, owner = ?, expires_ms = "+d.Now()+
		" + ? WHERE topic = ? AND grp = ? AND part = ? AND token = ?",
		s.State, owner, s.Lease.Milliseconds(), s.Topic.Name, s.Group, s.Part, s.Token)
	if err != nil {
		return false, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return false, err
	}
	_, err = q.ExecContext(ctx, "UPDATE "+d.Quote(s.Topic.Offsets)+" SET offset_acked = ? WHERE consumer_group = ?", s.Offset.Off, s.Consumer)
	return true, err
}

// Listen watches the numbers that SQLite keeps for AUTOINCREMENT, which tell of every insert.
func (d *dialect) Listen(ctx context.Context, every time.Duration, ready func(), heard func(string)) error {
	if !d.Watches() {
		return nil
	}
	return sqllog.Watch(ctx, every, d.heads, ready, heard)
}

// Watches is false for a database in memory: it has no other processes.
func (d *dialect) Watches() bool { return d.file }

func (d *dialect) heads(ctx context.Context) (map[string]int64, error) {
	rows, err := d.db.QueryContext(ctx, `SELECT COALESCE(t.topic, ''), s.seq FROM sqlite_sequence s LEFT JOIN postbus_topics t ON t.messages = s.name
		WHERE t.topic IS NOT NULL OR s.name = 'postbus_later'`)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	heads := map[string]int64{}
	for rows.Next() {
		var topic string
		var head int64
		if err := rows.Scan(&topic, &head); err != nil {
			return nil, err
		}
		heads[topic] = head
	}
	return heads, rows.Err()
}

func (d *dialect) Notify(context.Context, []string) error { return nil }
