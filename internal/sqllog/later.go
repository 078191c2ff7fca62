package sqllog

import (
	"context"
	"database/sql"
	"strings"
	"time"

	"github.com/postbus/postbus/store"
)

const (
	// moveLimit is how many delayed messages move in one transaction.
	moveLimit = 500
	// movePause is the longest time between looks for delayed messages that another process left behind.
	movePause = time.Second
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

// moveDue moves the delayed messages that are due into their logs. Every instance does, so that none has to live.
func (l *Log) moveDue() {
	for {
		next := l.clock.now() + movePause.Milliseconds()
		l.moveAt.Store(next)
		moved, due, err := l.moveOnce(l.ctx)
		switch {
		case l.ctx.Err() != nil:
			return
		case err != nil:
			l.cfg.Logger.Warn("postbus: delayed messages wait, for they could not be moved", "driver", l.d.Name(), "error", err)
		case moved == moveLimit:
			continue
		case due != 0:
			l.dueSoon(due)
		}
		for {
			// The clocks may have been found to differ in between: no reason to wait for longer.
			wait := min(time.Duration(l.moveAt.Load()-l.clock.now())*time.Millisecond, movePause)
			if wait <= 0 {
				break
			}
			t := time.NewTimer(wait)
			select {
			case <-l.ctx.Done():
				t.Stop()
				return
			case <-t.C:
			case <-l.moveWake:
				t.Stop()
			}
		}
	}
}

// moveOnce returns how many messages it moved, and when the next is due, 0 if none waits.
func (l *Log) moveOnce(ctx context.Context) (moved int, due int64, err error) {
	var next sql.NullInt64
	var now int64
	asked := time.Now()
	q := "SELECT " + l.d.Now() + ", (SELECT MIN(due_ms) FROM postbus_later WHERE grp = ?)"
	if err := l.db.QueryRowContext(ctx, l.d.Bind(q), "").Scan(&now, &next); err != nil {
		return 0, 0, err
	}
	l.clock.answered(asked, now)
	if !next.Valid || next.Int64 > now {
		return 0, next.Int64, nil
	}
	var topics []string
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		rows, err := l.laters(ctx, tx, "WHERE grp = ? AND due_ms <= "+l.d.Now()+" ORDER BY due_ms, id LIMIT ? "+l.d.SkipLocked(),
			"", moveLimit)
		if err != nil || len(rows) == 0 {
			return err
		}
		byTopic := map[string]*Step{}
		ids := make([]int64, len(rows))
		for i := range rows {
			r := &rows[i]
			ids[i] = r.ID
			if byTopic[r.Topic] == nil {
				l.mu.Lock()
				t := l.topics[r.Topic]
				l.mu.Unlock()
				if t == nil { // published by a process that is gone; its tables are there
					t = &Topic{Name: r.Topic}
					t.Messages, t.Offsets = TableNames(r.Topic, l.d.UpperCase())
				}
				byTopic[r.Topic] = &Step{Rows: Rows{Topic: t}}
				topics = append(topics, r.Topic)
			}
			byTopic[r.Topic].add(encoded{uuid: r.UUID, metadata: r.Metadata, payload: r.Payload})
		}
		for _, name := range topics {
			if err := l.d.AppendTx(ctx, tx, byTopic[name]); err != nil {
				return err
			}
		}
		moved = len(rows)
		return l.deleteLater(ctx, tx, ids)
	})
	if err != nil {
		return 0, 0, err
	}
	for _, name := range topics {
		l.wake(name)
	}
	return moved, 0, nil
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

// InsertLater writes rows of postbus_later, for the dialects.
func InsertLater(ctx context.Context, q store.Execer, d Dialect, rows []Later) error {
	const chunk = 500
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
