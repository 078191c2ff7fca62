package saga

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

//go:embed migrations
var migrations embed.FS

// rows is the tables, in one dialect.
type rows struct{ dialect store.Dialect }

// forUpdate ends a query whose rows are to be locked. SQLite's transactions are alone.
func (r rows) forUpdate(skipLocked bool) string {
	switch {
	case r.dialect == store.SQLite:
		return ""
	case skipLocked:
		return " FOR UPDATE SKIP LOCKED"
	}
	return " FOR UPDATE"
}

// clockQuery asks for the time of the database, in ms since 1970.
func (r rows) clockQuery() string { return "SELECT " + sqltext.Now(r.dialect) }

// origin is what caused an instance, as kept.
type origin struct {
	Parent      string            `json:"parent,omitempty"`
	ParentKey   string            `json:"parent_key,omitempty"`
	ParentStep  string            `json:"parent_step,omitempty"`
	Correlation string            `json:"correlation,omitempty"`
	Trace       map[string]string `json:"trace,omitempty"`
}

const columns = "saga, inst, id, version, status, rev, claims, state, progress, error, origin, due_ms, started_ms, ended_ms"

// raw is a row, not decoded.
type raw struct {
	saga, key, id, status, state, progress, err, origin string

	version, claims int
	rev, started    int64
	due, ended      sql.NullInt64
}

func scan(from interface{ Scan(...any) error }) (*raw, error) {
	var r raw
	err := from.Scan(&r.saga, &r.key, &r.id, &r.version, &r.status, &r.rev, &r.claims, &r.state, &r.progress, &r.err, &r.origin,
		&r.due, &r.started, &r.ended)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	return &r, err
}

// find reads the row of an instance, or nil; with lock, nobody else changes it until tx ends.
func (r rows) find(ctx context.Context, from store.Querier, saga, key string, lock bool) (*raw, error) {
	q := "SELECT " + columns + " FROM postbus_saga WHERE saga = ? AND inst = ?"
	if lock {
		q += r.forUpdate(false)
	}
	return scan(from.QueryRowContext(ctx, r.dialect.Bind(q), saga, key))
}

// instance decodes a row. Without def the state stays undecoded.
func (r *raw) instance(def *definition) (*instance, error) {
	in := &instance{
		saga: r.saga, key: r.key, id: r.id, def: def, version: r.version, status: Status(r.status), rev: r.rev, claims: r.claims,
		err: r.err, started: r.started, ended: r.ended.Int64, due: r.due.Int64,
	}
	fail := func(err error) error {
		return fmt.Errorf("saga %q: instance %q (version %d): %w", r.saga, r.key, r.version, err)
	}
	var o origin
	if err := errors.Join(json.Unmarshal([]byte(r.progress), &in.progress), json.Unmarshal([]byte(r.origin), &o)); err != nil {
		return in, fail(err)
	}
	in.parent = parent{o.Parent, o.ParentKey, o.ParentStep}
	in.correlation, in.trace = o.Correlation, o.Trace
	if in.status != Completed && in.status.Ended() || def == nil || r.rev == 0 {
		return in, nil // nobody asks for the state, or there is no definition, or only a tombstone
	}
	if step := in.vanished(); step != "" {
		return in, fail(fmt.Errorf("%w: %q", ErrStep, step))
	}
	var err error
	if in.state, err = def.codec.decode(r.state); err != nil {
		return in, fail(err)
	}
	return in, nil
}

// values are what a transition writes.
func (in *instance) values(due sql.NullInt64) ([]any, error) {
	state, err := in.def.codec.encode(in.state)
	if err != nil {
		return nil, fmt.Errorf("saga %q: instance %q: encode the state: %w", in.saga, in.key, err)
	}
	progress, err := json.Marshal(&in.progress)
	if err != nil {
		return nil, err
	}
	return []any{in.version, string(in.status), in.progress.At, in.rev, state, string(progress), in.err, due, nullable(in.ended)}, nil
}

func nullable(ms int64) sql.NullInt64 { return sql.NullInt64{Int64: ms, Valid: ms != 0} }

// insert makes the row of a new instance, and reports whether there was none; if there was, the transaction is to be rolled
// back.
func (r rows) insert(ctx context.Context, tx *outbox.Tx, in *instance, due sql.NullInt64, now int64, entries []Entry) (bool, error) {
	values, err := in.values(due)
	if err != nil {
		return false, err
	}
	from, err := json.Marshal(origin{in.parent.saga, in.parent.key, in.parent.step, in.correlation, in.trace})
	if err != nil {
		return false, err
	}
	verb, clause := "INSERT", " ON CONFLICT DO NOTHING"
	if r.dialect == store.MySQL {
		verb, clause = "INSERT IGNORE", ""
	}
	q := verb + ` INTO postbus_saga (version, status, step, rev, state, progress, error, due_ms, ended_ms, claims, saga, inst, id, origin, started_ms)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, ?, ?, ?)` + clause
	n, err := r.write(ctx, tx, in, now, entries, q, append(values, in.saga, in.key, in.id, string(from), in.started))
	return n > 0, err
}

// update writes an instance whose row is locked, and the entries of the transition.
func (r rows) update(ctx context.Context, tx *outbox.Tx, in *instance, due sql.NullInt64, now int64, entries []Entry) error {
	values, err := in.values(due)
	if err != nil {
		return err
	}
	q := `UPDATE postbus_saga SET version = ?, status = ?, step = ?, rev = ?, state = ?, progress = ?, error = ?, due_ms = ?, ended_ms = ?, claims = 0
		WHERE saga = ? AND inst = ?`
	_, err = r.write(ctx, tx, in, now, entries, q, append(values, in.saga, in.key))
	return err
}

// write runs a statement on the row of an instance and, if it has changed the row, adds the entries to the journal; on
// PostgreSQL by one round trip. It returns how many rows the statement has changed.
func (r rows) write(ctx context.Context, tx *outbox.Tx, in *instance, now int64, entries []Entry, q string, args []any) (int64, error) {
	text, err := json.Marshal(entries)
	if err != nil {
		return 0, err
	}
	if r.dialect == store.Postgres {
		q = "WITH w AS (" + q + ` RETURNING saga, inst, rev)
			INSERT INTO postbus_saga_journal (saga, inst, rev, at_ms, entries) SELECT saga, inst, rev, ?, ? FROM w`
		args = append(args, now, string(text))
	}
	res, err := tx.ExecContext(ctx, r.dialect.Bind(q), args...)
	if err != nil {
		return 0, err
	}
	n, err := res.RowsAffected()
	if err != nil || n == 0 || r.dialect == store.Postgres {
		return n, err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO postbus_saga_journal (saga, inst, rev, at_ms, entries) VALUES (?, ?, ?, ?, ?)",
		in.saga, in.key, in.rev, now, string(text))
	return n, err
}

// reschedule changes only when an instance whose row is locked is looked at.
func (r rows) reschedule(ctx context.Context, tx *outbox.Tx, saga, key string, due sql.NullInt64) error {
	_, err := tx.ExecContext(ctx, r.dialect.Bind("UPDATE postbus_saga SET due_ms = ? WHERE saga = ? AND inst = ?"), due, saga, key)
	return err
}

// of runs a statement on the rows of some instances of a saga.
func (r rows) of(ctx context.Context, tx *outbox.Tx, verb, saga string, keys []any, and string) error {
	_, err := tx.ExecContext(ctx, r.dialect.Bind(verb+" WHERE saga = ? AND inst IN ("+marks(len(keys))+")"+and), append([]any{saga}, keys...)...)
	return err
}

// newID returns 128 random bits.
func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
