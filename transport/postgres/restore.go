package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"

	"github.com/postbus/postbus/internal/sqllog"
)

// foreign are the rows whose transaction id is not of this server: a dump brought them, for the transaction that wrote
// them here is another one. Tx 0 is what adopt gave to those of earlier dumps.
const foreign = `transaction_id <> '0' AND xmin::text::bigint <> mod(transaction_id::text::numeric, 4294967296)`

// checkOrigin notices that the database was restored into another server. There, transaction ids began anew: old rows
// would lie beyond the horizon for long, and new ones behind the groups' offsets.
func (d *dialect) checkOrigin(ctx context.Context, t *sqllog.Topic) error {
	err := d.db.QueryRowContext(ctx, "SELECT origin FROM postbus_topics WHERE topic = $1", t.Name).Scan(&t.Origin)
	if errors.Is(err, sql.ErrNoRows) { // watermill-sql made the tables, or a dump held only those
		t.Origin, err = "", nil
	}
	if err != nil || t.Origin == d.origin {
		return err
	}
	tx, err := d.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if err := d.adopt(ctx, tx, t); err != nil {
		return fmt.Errorf("adopt the messages that another server wrote: %w", err)
	}
	if err := tx.Commit(); err != nil {
		return err
	}
	t.Origin = d.origin
	return nil
}

// adopt renumbers foreign rows, in their order, as of transaction 0, which is before all others; offsets and states of
// groups go along. It locks the tables, so that it happens once and between everything else.
func (d *dialect) adopt(ctx context.Context, tx *sql.Tx, t *sqllog.Topic) error {
	messages, offsets := d.Quote(t.Messages), d.Quote(t.Offsets)
	_, err := tx.ExecContext(ctx, "INSERT INTO postbus_topics (topic, messages, offsets) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
		t.Name, t.Messages, t.Offsets)
	if err != nil {
		return err
	}
	var origin string
	if err := tx.QueryRowContext(ctx, "SELECT origin FROM postbus_topics WHERE topic = $1 FOR UPDATE", t.Name).Scan(&origin); err != nil {
		return err
	}
	if origin == d.origin { // another instance was first
		return nil
	}
	if _, err := tx.ExecContext(ctx, "LOCK TABLE "+messages+", "+offsets+" IN SHARE ROW EXCLUSIVE MODE"); err != nil {
		return err
	}
	var beyond bool
	err = tx.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM "+messages+" WHERE "+foreign+") OR EXISTS (SELECT 1 FROM "+offsets+
		" WHERE last_processed_transaction_id >= pg_snapshot_xmax(pg_current_snapshot()))").Scan(&beyond)
	if err != nil {
		return err
	}
	if beyond {
		if err := d.renumber(ctx, tx, t); err != nil {
			return err
		}
	}
	_, err = tx.ExecContext(ctx, "UPDATE postbus_topics SET origin = $2 WHERE topic = $1", t.Name, d.origin)
	return err
}

func (d *dialect) renumber(ctx context.Context, tx *sql.Tx, t *sqllog.Topic) error {
	messages, offsets := d.Quote(t.Messages), d.Quote(t.Offsets)
	for _, q := range []string{
		`CREATE TEMPORARY TABLE postbus_moved ON COMMIT DROP AS
			SELECT transaction_id AS x, "offset" AS o, row_number() OVER (ORDER BY transaction_id, "offset") + greatest(
				(SELECT coalesce(max("offset"), 0) FROM ` + messages + ` WHERE transaction_id = '0'),
				(SELECT coalesce(max(offset_acked), 0) FROM ` + offsets + ` WHERE last_processed_transaction_id = '0')) AS n
			FROM ` + messages + ` WHERE ` + foreign,
		`CREATE UNIQUE INDEX ON postbus_moved (x, o)`,
		`UPDATE ` + messages + ` m SET transaction_id = '0', "offset" = p.n FROM postbus_moved p WHERE m.transaction_id = p.x AND m."offset" = p.o`,
	} {
		if _, err := tx.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	if err := d.moveOffsets(ctx, tx, offsets); err != nil {
		return err
	}
	rows, err := tx.QueryContext(ctx, "SELECT grp, part, state FROM postbus_groups WHERE topic = $1", t.Name)
	if err != nil {
		return err
	}
	type group struct {
		name  string
		part  int
		state []byte
	}
	var groups []group
	for rows.Next() {
		var g group
		if err := rows.Scan(&g.name, &g.part, &g.state); err != nil {
			_ = rows.Close()
			return err
		}
		groups = append(groups, g)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for _, g := range groups {
		state, err := sqllog.MoveState(g.state, func(p sqllog.Pos) (sqllog.Pos, error) { return d.moved(ctx, tx, p) })
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE postbus_groups SET state = $1 WHERE topic = $2 AND grp = $3 AND part = $4", state, t.Name, g.name, g.part)
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *dialect) moveOffsets(ctx context.Context, tx *sql.Tx, offsets string) error {
	rows, err := tx.QueryContext(ctx, "SELECT consumer_group, last_processed_transaction_id::text::bigint, coalesce(offset_acked, 0) FROM "+offsets)
	if err != nil {
		return err
	}
	at := map[string]sqllog.Pos{}
	for rows.Next() {
		var name string
		var p sqllog.Pos
		if err := rows.Scan(&name, &p.Tx, &p.Off); err != nil {
			_ = rows.Close()
			return err
		}
		at[name] = p
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return err
	}
	for name, p := range at {
		q, err := d.moved(ctx, tx, p)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE "+offsets+" SET last_processed_transaction_id = $2::text::xid8, offset_acked = $3 WHERE consumer_group = $1",
			name, strconv.FormatUint(q.Tx, 10), q.Off)
		if err != nil {
			return err
		}
	}
	return nil
}

// moved is where the last foreign row at or before p is now. Without one, p is before all of them.
func (d *dialect) moved(ctx context.Context, tx *sql.Tx, p sqllog.Pos) (sqllog.Pos, error) {
	if p.Tx == 0 {
		return p, nil
	}
	var n int64
	err := tx.QueryRowContext(ctx, `SELECT coalesce((SELECT max(n) FROM postbus_moved WHERE (x, o) <= ($1::text::xid8, $2)),
		(SELECT min(n) - 1 FROM postbus_moved), 0)`, strconv.FormatUint(p.Tx, 10), p.Off).Scan(&n)
	return sqllog.Pos{Off: n}, err
}
