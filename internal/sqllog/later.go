package sqllog

import (
	"context"
	"strings"

	"github.com/postbus/postbus/store"
)

// dueSoon makes moveDue look at due, in ms by the database's clock, or earlier.
func (l *Log) dueSoon(due int64) {
	for {
		at := l.moveAt.Load()
		if at <= due {
			return
		}
		if l.moveAt.CompareAndSwap(at, due) {
			poke(l.moveWake)
			return
		}
	}
}

func (l *Log) laters(ctx context.Context, q Querier, where string, args ...any) ([]Later, error) {
	rows, err := q.QueryContext(ctx, l.d.Bind("SELECT id, topic, grp, due_ms, hash, attempts, pos_tx, pos_off, taken, uuid, metadata, payload FROM postbus_later "+where), args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []Later
	for rows.Next() {
		var r Later
		if err := rows.Scan(&r.ID, &r.Topic, &r.Group, &r.Due, &r.Hash, &r.Attempts, &r.Pos.Tx, &r.Pos.Off, &r.Taken, &r.UUID, &r.Metadata, &r.Payload); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, rows.Err()
}

// AppendLater is AppendTx of rows of postbus_later, for dialects whose offsets are counted. Where a row gets a place in the
// order of the log, an empty row there that goes at once gives its offset; emptyRow ends the INSERT of that.
func AppendLater(ctx context.Context, q store.Execer, d Dialect, s *Step, emptyRow string) error {
	if s.Placed {
		if err := place(ctx, q, d, s, emptyRow); err != nil {
			return err
		}
	}
	const chunk = 500
	rows := s.Later
	for len(rows) > 0 {
		n := min(chunk, len(rows))
		args := make([]any, 0, n*8)
		for i := range rows[:n] {
			r := &rows[i]
			args = append(args, r.Topic, r.Group, r.Due, r.Hash, r.Pos.Off, r.UUID, r.Metadata, r.Payload)
		}
		query := "INSERT INTO postbus_later (topic, grp, due_ms, hash, pos_off, uuid, metadata, payload) VALUES " +
			strings.TrimSuffix(strings.Repeat("(?,?,?,?,?,?,?,?),", n), ",")
		if _, err := q.ExecContext(ctx, d.Bind(query), args...); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

// place takes offsets for rows that are not in the log. Readers who mind gaps ask postbus_later about them.
func place(ctx context.Context, q store.Execer, d Dialect, s *Step, emptyRow string) error {
	messages := d.Quote(s.Topic.Messages)
	for i := range s.Later {
		res, err := q.ExecContext(ctx, "INSERT INTO "+messages+" "+emptyRow)
		if err != nil {
			return err
		}
		if s.Later[i].Pos.Off, err = res.LastInsertId(); err != nil {
			return err
		}
		if _, err := q.ExecContext(ctx, "DELETE FROM "+messages+" WHERE "+d.Quote("offset")+" = ?", s.Later[i].Pos.Off); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) deleteLater(ctx context.Context, q Querier, ids []int64) error {
	return l.eachID(ids, func(marks string, args []any) error {
		_, err := q.ExecContext(ctx, l.d.Bind("DELETE FROM postbus_later WHERE id IN ("+marks+")"), args...)
		return err
	})
}

func (l *Log) eachID(ids []int64, f func(marks string, args []any) error) error {
	const chunk = 500
	for len(ids) > 0 {
		n := min(chunk, len(ids))
		args := make([]any, n)
		for i, id := range ids[:n] {
			args[i] = id
		}
		if err := f(strings.TrimSuffix(strings.Repeat("?,", n), ","), args); err != nil {
			return err
		}
		ids = ids[n:]
	}
	return nil
}
