package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

const (
	// moveLimit is how many delayed messages move in one transaction.
	moveLimit = 500
	// movePause is the longest time between looks for delayed messages that another process left behind.
	movePause = time.Second
	// moveTimeout bounds one such transaction, for a table that somebody has locked must not hold up other topics, and one
	// look, for a connection can fall silent.
	moveTimeout = 5 * time.Second
	// moveTries is how often one that loses against others runs.
	moveTries = 5
)

// mover moves the delayed messages that are due into their logs.
type mover struct {
	l      *Log
	topics map[string]*hindered
}

// moveDue moves the delayed messages that are due into their logs. Every instance does, so that none has to live.
func (l *Log) moveDue() {
	m := &mover{l: l, topics: map[string]*hindered{}}
	for {
		next := l.clock.now() + movePause.Milliseconds()
		l.moveAt.Store(next)
		moved, due, err := m.once(l.ctx)
		switch {
		case l.ctx.Err() != nil, errors.Is(err, transport.ErrClosed):
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

// once returns how many messages it moved or put off, and when the next is due, 0 if none waits.
func (m *mover) once(ctx context.Context) (moved int, due int64, err error) {
	topics, due, err := m.look(ctx)
	if err != nil {
		return 0, 0, err
	}
	for _, name := range topics {
		n, err := m.move(ctx, name)
		if err != nil {
			return moved, 0, err
		}
		moved += n
	}
	return moved, due, nil
}

// look returns the topics of messages that are due or, if none is, when the next one is; 0 if none waits.
func (m *mover) look(ctx context.Context) (topics []string, due int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	l := m.l
	var next sql.NullInt64
	var now int64
	asked := time.Now()
	others, args := m.others()
	q := "SELECT " + l.d.Now() + ", (SELECT MIN(due_ms) FROM postbus_later WHERE grp = ?" + others + ")"
	if err := l.db.QueryRowContext(ctx, l.d.Bind(q), append([]any{""}, args...)...).Scan(&now, &next); err != nil {
		return nil, 0, err
	}
	l.clock.answered(asked, now)
	if !next.Valid || next.Int64 > now {
		return nil, next.Int64, nil
	}
	topics, err = m.due(ctx)
	return topics, 0, err
}

// others is a condition on rows of postbus_later: that they are of topics that may be tried.
func (m *mover) others() (condition string, args []any) {
	now := time.Now()
	for name, h := range m.topics {
		if now.Before(h.until) {
			args = append(args, name)
		}
	}
	if len(args) == 0 {
		return "", nil
	}
	return " AND topic NOT IN (" + strings.TrimSuffix(strings.Repeat("?,", len(args)), ",") + ")", args
}

// isDue is a condition on rows of postbus_later. The clock is read once: PostgreSQL would compare it with each row that
// waits, not knowing that it stands still.
func (l *Log) isDue() string { return "due_ms <= (SELECT " + l.d.Now() + ")" }

// due returns the topics of the messages that have been due for longest.
func (m *mover) due(ctx context.Context) ([]string, error) {
	l := m.l
	others, args := m.others()
	args = append(append([]any{""}, args...), moveLimit)
	rows, err := l.db.QueryContext(ctx, l.d.Bind("SELECT topic FROM (SELECT topic FROM postbus_later WHERE grp = ?"+others+" AND "+l.isDue()+
		" ORDER BY due_ms, id LIMIT ?) due GROUP BY topic"), args...)
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

// move moves messages of one topic. If that cannot be, they wait so that they hold up no others. An error is one of the
// database itself.
func (m *mover) move(ctx context.Context, name string) (moved int, err error) {
	limit, lost := m.topics[name].limit(), 0
	for {
		n, err := m.try(ctx, name, limit)
		switch {
		case err == nil:
			delete(m.topics, name)
			return n, nil
		case ctx.Err() != nil, errors.Is(err, transport.ErrClosed):
			return 0, err
		case m.isBadRow(err) && n > 1:
			limit = n / 2 // what stands before the bad one moves, and then it is the first
		case store.IsConflict(err) && lost < moveTries:
			lost++
			sleep(ctx, rand.N(10*time.Millisecond))
		default:
			return m.hinder(ctx, name, n, err)
		}
	}
}

// try moves up to limit messages of one topic, in a transaction of their own. It returns how many it read.
func (m *mover) try(ctx context.Context, name string, limit int) (n int, err error) {
	l := m.l
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	defer func() {
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", ctx.Err(), err)
		}
	}()
	t, err := l.topic(ctx, name) // it may have been published by a process that is gone
	if err != nil {
		return 0, err
	}
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		// Who has to wait for the table does so here, where it holds nothing yet: no rows, and no transaction id, at which
		// PostgreSQL would keep all logs.
		messages, uuid := l.d.Quote(t.Messages), l.d.Quote("uuid")
		if _, err := tx.ExecContext(ctx, "INSERT INTO "+messages+" ("+uuid+") SELECT "+uuid+" FROM "+messages+" WHERE 1 = 0"); err != nil {
			return err
		}
		rows, err := l.dueRows(ctx, tx, name, limit)
		if err != nil || len(rows) == 0 {
			return err
		}
		n = len(rows)
		step := &Step{Rows: Rows{Topic: t}}
		ids := make([]int64, len(rows))
		for i := range rows {
			ids[i] = rows[i].ID
			step.add(encoded{uuid: rows[i].UUID, metadata: rows[i].Metadata, payload: rows[i].Payload})
		}
		if err := l.d.AppendTx(ctx, tx, step); err != nil {
			return err
		}
		return l.deleteLater(ctx, tx, ids)
	})
	if err == nil && n > 0 {
		l.wake(name)
	}
	return n, err
}

func (l *Log) dueRows(ctx context.Context, tx *sql.Tx, topic string, limit int) ([]Later, error) {
	return l.laters(ctx, tx, "WHERE topic = ? AND grp = ? AND "+l.isDue()+" ORDER BY due_ms, id LIMIT ? "+l.d.SkipLocked(), topic, "", limit)
}
