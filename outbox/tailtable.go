package outbox

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/hex"
	"fmt"
	"slices"
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

// tableTimeout bounds one statement, for its connection can have fallen silent.
const tableTimeout = 15 * time.Second

// all returns where the first rows are, as of now, in the order in which they were written. Who publishes of one key waits
// for the commit of who did before, if the order is to mean anything: then the offsets tell it, and ids of transactions, by
// which the index is, tell who wrote anything first.
func (t *tailTable) all(ctx context.Context, limit int) ([]sqllog.Pos, error) {
	ctx, cancel := context.WithTimeout(ctx, tableTimeout)
	defer cancel()
	rows, err := t.db.QueryContext(ctx, `SELECT transaction_id::text, "offset" FROM `+t.name+` ORDER BY "offset" LIMIT $1`, limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []sqllog.Pos
	for rows.Next() {
		var tx string
		var p sqllog.Pos
		if err := rows.Scan(&tx, &p.Off); err != nil {
			return nil, err
		}
		if p.Tx, err = strconv.ParseUint(tx, 10, 64); err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, rows.Err()
}

// at returns those rows that are still there, in the order in which they were written.
func (t *tailTable) at(ctx context.Context, at []sqllog.Pos) ([]tailRow, error) {
	txs, offs := positions(at)
	rows, err := t.rows(ctx, atPositions, txs, offs)
	slices.SortFunc(rows, func(a, b tailRow) int { return cmp.Compare(a.pos.Off, b.pos.Off) })
	return rows, err
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
	ctx, cancel := context.WithTimeout(ctx, tableTimeout)
	defer cancel()
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

// await waits until others see transactions: they can be in the log before that.
func (t *tailTable) await(ctx context.Context, txs []string) error {
	for {
		var seen bool
		asking, cancel := context.WithTimeout(ctx, tableTimeout)
		err := t.db.QueryRowContext(asking, "SELECT bool_and(pg_visible_in_snapshot(x::xid8, pg_current_snapshot())) FROM unnest($1::text[]) x",
			txs).Scan(&seen)
		cancel()
		if err != nil || seen {
			return err
		}
		pause(ctx, time.Millisecond)
	}
}

// there returns those of rows that are in the table.
func (t *tailTable) there(ctx context.Context, rows []tailRow) ([]tailRow, error) {
	at := make([]sqllog.Pos, len(rows))
	for i := range rows {
		at[i] = rows[i].pos
	}
	txs, offs := positions(at)
	if err := t.await(ctx, txs); err != nil {
		return nil, err
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

// delete removes rows. Those that came from the log may have been forwarded before others see them, and would stay: they
// are waited for.
func (t *tailTable) delete(ctx context.Context, at []sqllog.Pos) error {
	if len(at) == 0 {
		return nil
	}
	txs, offs := positions(at)
	for first := true; ; first = false {
		deleting, cancel := context.WithTimeout(ctx, tableTimeout)
		res, err := t.db.ExecContext(deleting, "DELETE FROM "+t.name+" WHERE "+atPositions, txs, offs)
		cancel()
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || int(n) == len(at) || !first {
			return err
		}
		if err := t.await(ctx, txs); err != nil {
			return err
		}
	}
}

const atPositions = `(transaction_id, "offset") IN (SELECT x::xid8, o FROM unnest($1::text[], $2::bigint[]) AS p (x, o))`

func positions(at []sqllog.Pos) (txs []string, offs []int64) {
	for _, p := range at {
		txs, offs = append(txs, strconv.FormatUint(p.Tx, 10)), append(offs, p.Off)
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
