package outbox

import (
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"strconv"
	"time"

	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/transport"
)

// tailTable is a table of PostgreSQL that is tailed. Its rows have a transaction_id and an "offset", as those of a topic.
type tailTable struct {
	db      *sql.DB
	name    string // quoted
	columns []string
	bytea   map[string]bool
	message func(text func(column string) []byte) (*transport.Message, error)
}

type tailRow struct {
	pos sqllog.Pos
	msg *transport.Message
}

// logTable is the table of a topic of the SQL engine.
func logTable(ctx context.Context, db *sql.DB, topic string) (*tailTable, error) {
	name, _ := sqllog.TableNames(topic, true)
	t := &tailTable{db: db, name: `"` + name + `"`, columns: []string{"uuid", "metadata", "payload"}, bytea: map[string]bool{},
		message: func(text func(string) []byte) (*transport.Message, error) {
			return sqllog.Decode(string(text("uuid")), text("metadata"), text("payload")), nil
		}}
	var kind string
	err := db.QueryRowContext(ctx, "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = $1::text::regclass AND attname = 'payload'",
		t.name).Scan(&kind)
	t.bytea["payload"] = kind == "bytea"
	return t, err
}

// decode makes a row of its columns as text; nil is NULL.
func (t *tailTable) decode(text func(column string) []byte) (tailRow, error) {
	var r tailRow
	var err error
	if r.pos.Tx, err = strconv.ParseUint(string(text("transaction_id")), 10, 64); err == nil {
		r.pos.Off, err = strconv.ParseInt(string(text("offset")), 10, 64)
	}
	if err != nil {
		return r, fmt.Errorf("a row of %s: %w", t.name, err)
	}
	r.msg, err = t.message(func(column string) []byte {
		b := text(column)
		if !t.bytea[column] || len(b) < 2 {
			return b
		}
		raw := make([]byte, hex.DecodedLen(len(b)-2)) // behind "\x"
		if _, bad := hex.Decode(raw, b[2:]); bad != nil {
			err = bad
		}
		return raw
	})
	return r, err
}

// page returns the first rows beyond after, in the order of their transactions.
func (t *tailTable) page(ctx context.Context, after sqllog.Pos, limit int) ([]tailRow, error) {
	return t.rows(ctx, `(transaction_id, "offset") > ($1::text::xid8, $2) ORDER BY transaction_id, "offset" LIMIT $3`,
		strconv.FormatUint(after.Tx, 10), after.Off, limit)
}

func (t *tailTable) rows(ctx context.Context, where string, args ...any) ([]tailRow, error) {
	q := `SELECT transaction_id::text, "offset"::text`
	for _, c := range t.columns {
		if t.bytea[c] {
			q += `, '\x' || encode(` + c + `, 'hex')`
		} else {
			q += ", " + c + "::text"
		}
	}
	all := append([]string{"transaction_id", "offset"}, t.columns...)
	rows, err := t.db.QueryContext(ctx, q+" FROM "+t.name+" WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []tailRow
	for rows.Next() {
		values, into := make(map[string]*[]byte, len(all)), make([]any, len(all))
		for i, c := range all {
			values[c] = new([]byte)
			into[i] = values[c]
		}
		if err := rows.Scan(into...); err != nil {
			return nil, err
		}
		r, err := t.decode(func(column string) []byte { return *values[column] })
		if err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// there returns those of rows that are in the table. A transaction can be in the log before others see it: it is waited
// for.
func (t *tailTable) there(ctx context.Context, rows []tailRow) ([]tailRow, error) {
	txs, offs := positions(rows)
	for {
		var seen bool
		err := t.db.QueryRowContext(ctx, "SELECT bool_and(pg_visible_in_snapshot(x::xid8, pg_current_snapshot())) FROM unnest($1::text[]) x",
			txs).Scan(&seen)
		if err != nil {
			return nil, err
		}
		if seen {
			break
		}
		pause(ctx, time.Millisecond)
	}
	found, err := t.rows(ctx, atPositions, txs, offs)
	if err != nil {
		return nil, err
	}
	has := make(map[sqllog.Pos]bool, len(found))
	for i := range found {
		has[found[i].pos] = true
	}
	var out []tailRow
	for i := range rows {
		if has[rows[i].pos] {
			out = append(out, rows[i])
		}
	}
	return out, nil
}

// delete removes rows.
func (t *tailTable) delete(ctx context.Context, at []sqllog.Pos) error {
	if len(at) == 0 {
		return nil
	}
	rows := make([]tailRow, len(at))
	for i := range at {
		rows[i].pos = at[i]
	}
	txs, offs := positions(rows)
	_, err := t.db.ExecContext(ctx, "DELETE FROM "+t.name+" WHERE "+atPositions, txs, offs)
	return err
}

const atPositions = `(transaction_id, "offset") IN (SELECT x::xid8, o FROM unnest($1::text[], $2::bigint[]) AS p (x, o))`

func positions(rows []tailRow) (txs []string, offs []int64) {
	for i := range rows {
		txs, offs = append(txs, strconv.FormatUint(rows[i].pos.Tx, 10)), append(offs, rows[i].pos.Off)
	}
	return txs, offs
}

// count returns how many rows there are, and the age of the oldest.
func (t *tailTable) count(ctx context.Context) (n int, oldest time.Duration, err error) {
	var seconds sql.NullFloat64
	err = t.db.QueryRowContext(ctx, `SELECT count(*), extract(epoch FROM (clock_timestamp() AT TIME ZONE 'UTC') - min(created_at))::float8 FROM `+t.name).
		Scan(&n, &seconds)
	return n, max(0, time.Duration(seconds.Float64*float64(time.Second))), err
}
