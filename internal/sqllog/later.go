package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/postbus/postbus/store"
)

const (
	// moveLimit is how many delayed messages move in one transaction.
	moveLimit = 500
	// movePause is the longest time between looks for delayed messages that another process left behind.
	movePause = time.Second
	// longestPutOff bounds the time until messages that could not be moved are tried again.
	longestPutOff = time.Minute
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
		case moved > 0:
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

// moveOnce returns how many messages it moved or put off, and when the next is due, 0 if none waits.
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
	topics, err := l.dueTopics(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range topics {
		n, err := l.moveTopic(ctx, name)
		if err != nil {
			if n, err = l.putOff(ctx, name, err); err != nil {
				return moved, 0, err
			}
		}
		moved += n
	}
	return moved, 0, nil
}

// isDue is a condition on rows of postbus_later. The clock is read once: PostgreSQL would compare it with each row that
// waits, not knowing that it stands still.
func (l *Log) isDue() string { return "due_ms <= (SELECT " + l.d.Now() + ")" }

// dueTopics returns the topics of the messages that have been due for longest.
func (l *Log) dueTopics(ctx context.Context) ([]string, error) {
	rows, err := l.db.QueryContext(ctx, l.d.Bind("SELECT topic FROM (SELECT topic FROM postbus_later WHERE grp = ? AND "+l.isDue()+
		" ORDER BY due_ms, id LIMIT ?) due GROUP BY topic"), "", moveLimit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var topics []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		topics = append(topics, name)
	}
	return topics, rows.Err()
}

// moveTopic moves messages of one topic, in a transaction of their own: what keeps one topic from being written to does not
// hold up the others.
func (l *Log) moveTopic(ctx context.Context, name string) (moved int, err error) {
	t, err := l.topic(ctx, name) // it may have been published by a process that is gone
	if err != nil {
		return 0, err
	}
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		rows, err := l.dueRows(ctx, tx, name)
		if err != nil || len(rows) == 0 {
			return err
		}
		step := &Step{Rows: Rows{Topic: t}}
		ids := make([]int64, len(rows))
		for i := range rows {
			ids[i] = rows[i].ID
			step.add(encoded{uuid: rows[i].UUID, metadata: rows[i].Metadata, payload: rows[i].Payload})
		}
		if err := l.d.AppendTx(ctx, tx, step); err != nil {
			return err
		}
		moved = len(rows)
		return l.deleteLater(ctx, tx, ids)
	})
	if err != nil {
		return 0, err
	}
	if moved > 0 {
		l.wake(name)
	}
	return moved, nil
}

func (l *Log) dueRows(ctx context.Context, tx *sql.Tx, topic string) ([]Later, error) {
	return l.laters(ctx, tx, "WHERE topic = ? AND grp = ? AND "+l.isDue()+" ORDER BY due_ms, id LIMIT ? "+l.d.SkipLocked(), topic, "", moveLimit)
}

// putOff makes messages that could not be moved due later, each time twice as long, so that they neither stand before
// those of other topics nor are read over and over. Anything but a refusal is returned: the database itself is in trouble.
func (l *Log) putOff(ctx context.Context, topic string, cause error) (n int, err error) {
	if c := l.d.Class(cause); ctx.Err() != nil || (c == Unknown || c == NotSent) && !errors.Is(cause, ErrForeignTable) {
		return 0, cause
	}
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		rows, err := l.dueRows(ctx, tx, topic)
		if err != nil {
			return err
		}
		tried := map[int][]int64{}
		for i := range rows {
			tried[rows[i].Attempts] = append(tried[rows[i].Attempts], rows[i].ID)
		}
		for times, ids := range tried {
			pause := min(time.Second<<min(times, 20), longestPutOff)
			err := l.eachID(ids, func(marks string, args []any) error {
				q := l.d.Bind("UPDATE postbus_later SET attempts = attempts + 1, due_ms = " + l.d.Now() + " + ? WHERE id IN (" + marks + ")")
				_, err := tx.ExecContext(ctx, q, append([]any{pause.Milliseconds()}, args...)...)
				return err
			})
			if err != nil {
				return err
			}
		}
		n = len(rows)
		return nil
	})
	l.cfg.Logger.Warn("postbus: delayed messages of a topic are put off, for they could not be moved", "driver", l.d.Name(),
		"topic", topic, "messages", n, "error", cause)
	return n, err
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
