package sqlite

import (
	"context"
	"database/sql"
	"errors"
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

func newDialect(ctx context.Context, db *store.DB, _ bool) (sqllog.Dialect, error) {
	d := &dialect{db: db.SQL(), writing: &sync.Mutex{}}
	var file string
	if err := d.db.QueryRowContext(ctx, "SELECT file FROM pragma_database_list WHERE name = 'main'").Scan(&file); err != nil {
		return nil, err
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

func (d *dialect) Name() string { return "sqlite" }

func (d *dialect) UpperCase() bool { return false }

func (d *dialect) MaxPayload() int { return 256 << 20 }

func (d *dialect) Now() string { return sqltext.Now(store.SQLite) }

func (d *dialect) Bind(query string) string { return query }

func (d *dialect) InsertIgnore(q string) string { return q + " ON CONFLICT DO NOTHING" }

func (d *dialect) SkipLocked() string { return "" }

func (d *dialect) Quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (d *dialect) Prompt() bool { return true }

func (d *dialect) Close() error { return nil }

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
