package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postbus/postbus/store"
)

// longestPutOff bounds the time until messages that could not be moved are tried again.
const longestPutOff = time.Minute

// hindered is a topic whose messages could not be moved when they were last tried.
type hindered struct {
	refused int       // rows that stood first and that the table did not take, in a row
	failed  int       // other failures, in a row
	until   time.Time // it is not tried before
}

// limit is how many messages are tried together.
func (h *hindered) limit() int {
	switch {
	case h == nil:
		return moveLimit
	case h.refused > 0:
		return 1
	}
	return max(1, moveLimit>>(2*h.failed))
}

// isBadRow reports whether a table refuses a row for what is in it.
func (m *mover) isBadRow(err error) bool { return m.l.d.Class(err) == BadData || store.IsRefused(err) }

// hinder has messages of a topic wait that could not be moved. Those that the table refuses are put off: all or, where one
// row is bad, that one and, after several in a row, ever more of those that follow. After other failures the whole topic
// waits, if they are not of the database itself.
func (m *mover) hinder(ctx context.Context, name string, n int, cause error) (putOff int, err error) {
	l := m.l
	h := m.topics[name]
	if h == nil {
		h = &hindered{}
		m.topics[name] = h
	}
	refused := !errors.Is(cause, context.DeadlineExceeded) && !store.IsConflict(cause) && (m.isBadRow(cause) || l.d.Class(cause) == Refused)
	if refused || errors.Is(cause, ErrForeignTable) {
		limit := moveLimit
		if n == 1 && m.isBadRow(cause) {
			limit = min(1<<max(0, min(h.refused, 12)-3), moveLimit)
			h.refused++
		}
		if putOff, err = l.putOff(ctx, name, limit, cause); err == nil {
			return putOff, nil
		}
	}
	asking, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	var now int64
	if err := l.db.QueryRowContext(asking, "SELECT "+l.d.Now()).Scan(&now); err != nil {
		return 0, errors.Join(cause, err)
	}
	pause := pauseAfter(h.failed)
	h.failed++
	h.until = time.Now().Add(pause)
	l.cfg.Logger.Warn("postbus: delayed messages of a topic wait, for they could not be moved", "driver", l.d.Name(),
		"topic", name, "pause", pause, "error", cause)
	return 0, nil
}

// pauseAfter doubles with the number of failures before.
func pauseAfter(failures int) time.Duration {
	return min(time.Second<<min(failures, 20), longestPutOff)
}

// putOff makes the first messages of a topic due later, each time twice as long, so that they neither stand before those of
// other topics nor are read over and over.
func (l *Log) putOff(ctx context.Context, topic string, limit int, cause error) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, moveTimeout)
	defer cancel()
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		rows, err := l.dueRows(ctx, tx, topic, limit)
		if err != nil {
			return err
		}
		tried := map[int][]int64{}
		for i := range rows {
			tried[rows[i].Attempts] = append(tried[rows[i].Attempts], rows[i].ID)
		}
		for times, ids := range tried {
			pause := pauseAfter(times)
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
	if err != nil {
		return 0, err
	}
	l.cfg.Logger.Warn("postbus: delayed messages of a topic are put off, for they could not be moved", "driver", l.d.Name(),
		"topic", topic, "messages", n, "error", cause)
	return n, nil
}
