package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"time"

	"github.com/postbus/postbus/internal/sqllog"
)

// An offset is given to a row at its insert; the transaction commits later, or never. A reader that meets a gap in the
// offsets must therefore know whether a row can still appear there, also if plain Watermill programs or a caller's own
// transaction insert it:
//
//   - A row that is inserted and not committed is locked: a locking read of the gap that does not wait tells.
//   - A statement that has been given offsets and has not inserted yet holds the table's metadata lock, as its
//     transaction does to its end. Once LOCK TABLES … READ was granted there is none such, and whatever gaps there are
//     below the last row then stay for ever.
//
// The lock is asked for only when the first test has passed, so that it is granted within milliseconds as a rule.
// Where it is not granted (the right to it is missing, a long transaction is open further on), a gap counts as closed
// once it has passed the first test for graceful.
const (
	graceful = 3 * time.Second
	// lockWait is for how long at most inserts wait behind the request for the lock, in seconds.
	lockWait = "1"
)

// gaps is what is known of the gaps of one table.
type gaps struct {
	closed int64     // no row can appear at or before it
	open   int64     // the first offset of the gap that was met
	since  time.Time // when it passed the first test first
	tried  time.Time // when the lock was last asked for
	held   time.Time // since when a transaction is known to be in the gap
}

func (d *dialect) gapsOf(table string) *gaps {
	d.mu.Lock()
	defer d.mu.Unlock()
	g := d.gaps[table]
	if g == nil {
		g = &gaps{}
		d.gaps[table] = g
	}
	return g
}

func (d *dialect) Read(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, bound int64, limit int) ([]sqllog.Row, bool, error) {
	g := d.gapsOf(t.Messages)
	for {
		rows, err := d.rows(ctx, t, "`offset` > ? AND `offset` <= ? ORDER BY `offset` LIMIT ?", after.Off, bound, limit)
		if err != nil {
			return nil, false, err
		}
		n, from, to := d.safe(g, rows, after.Off)
		if n > 0 || len(rows) == 0 {
			return rows[:n], n < len(rows) || n == limit, nil
		}
		closed, err := d.close(ctx, t, g, from, to)
		if err != nil || !closed {
			return nil, true, err
		}
	}
}

// safe returns how many rows come before the first gap that is not known to be closed, and that gap.
func (d *dialect) safe(g *gaps, rows []sqllog.Row, last int64) (n int, from, to int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i := range rows {
		off := rows[i].Pos.Off
		if off != last+1 && off > g.closed+1 {
			return i, max(last, g.closed) + 1, off - 1
		}
		last = off
	}
	return len(rows), 0, 0
}

// close finds out whether rows can still appear from from to to. True means: read again.
func (d *dialect) close(ctx context.Context, t *sqllog.Topic, g *gaps, from, to int64) (bool, error) {
	share := " FOR SHARE NOWAIT"
	if d.maria {
		share = " LOCK IN SHARE MODE NOWAIT"
	}
	var found int64
	err := d.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM (SELECT `offset` FROM "+d.Quote(t.Messages)+" WHERE `offset` BETWEEN ? AND ?"+share+") g", from, to).Scan(&found)
	now := time.Now()
	d.mu.Lock()
	switch {
	case isNumber(err, errLockTimeout, errLockNowait): // somebody is in there
		g.since = time.Time{}
		if g.held.IsZero() || g.open != from {
			g.open, g.held = from, now
		}
		d.mu.Unlock()
		return false, nil
	case err != nil:
		d.mu.Unlock()
		return false, err
	case found > 0:
		d.mu.Unlock()
		return true, nil
	}
	if g.open != from || g.since.IsZero() {
		g.open, g.since, g.tried = from, now, time.Time{}
	}
	g.held = time.Time{}
	var placed int64
	q := "SELECT COUNT(DISTINCT pos_off) FROM postbus_later WHERE topic = ? AND pos_off BETWEEN ? AND ?"
	if to-from < 1000 && d.db.QueryRowContext(ctx, q, t.Name, from, to).Scan(&placed) == nil && placed == to-from+1 {
		g.closed = max(g.closed, to)
		d.mu.Unlock()
		return true, nil
	}
	over := now.Sub(g.since) >= graceful
	try := now.Sub(g.tried) >= time.Second
	if over {
		g.closed = max(g.closed, to)
	} else if try {
		g.tried = now
	}
	d.mu.Unlock()
	if over || !try {
		return over, nil
	}
	last, err := d.barrier(ctx, t)
	if err != nil {
		return false, nil //nolint:nilerr // not granted; the time decides
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	g.closed = max(g.closed, last)
	return true, nil
}

// barrier waits until no transaction has inserted into the table, and returns the last offset then.
func (d *dialect) barrier(ctx context.Context, t *sqllog.Topic) (last int64, err error) {
	c, err := d.db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if _, err := c.ExecContext(ctx, "SET SESSION lock_wait_timeout = "+lockWait); err != nil {
		return 0, err
	}
	defer func() {
		// A connection that cannot be cleaned must not go back.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_, unlock := c.ExecContext(ctx, "UNLOCK TABLES")
		_, reset := c.ExecContext(ctx, "SET SESSION lock_wait_timeout = DEFAULT")
		if unlock != nil || reset != nil {
			_ = c.Raw(func(any) error { return driver.ErrBadConn })
		}
	}()
	if _, err := c.ExecContext(ctx, "LOCK TABLES "+d.Quote(t.Messages)+" READ"); err != nil {
		return 0, err
	}
	var off sql.NullInt64
	err = c.QueryRowContext(ctx, "SELECT MAX(`offset`) FROM "+d.Quote(t.Messages)).Scan(&off)
	return off.Int64, err
}

func (d *dialect) Since(ctx context.Context, t *sqllog.Topic, after sqllog.Pos, since time.Time, limit int) ([]sqllog.Row, error) {
	return d.rows(ctx, t, "`offset` > ? AND UNIX_TIMESTAMP(created_at) >= ? ORDER BY `offset` LIMIT ?", after.Off, max(0, since.Unix()), limit)
}

func (d *dialect) ReadAt(ctx context.Context, t *sqllog.Topic, at []sqllog.Pos) ([]sqllog.Row, error) {
	var all []sqllog.Row
	for len(at) > 0 {
		n := min(500, len(at))
		args := make([]any, n)
		for i, p := range at[:n] {
			args[i] = p.Off
		}
		rows, err := d.rows(ctx, t, "`offset` IN ("+strings.TrimSuffix(strings.Repeat("?,", n), ",")+") ORDER BY `offset`", args...)
		if err != nil {
			return nil, err
		}
		all, at = append(all, rows...), at[n:]
	}
	return all, nil
}

func (d *dialect) rows(ctx context.Context, t *sqllog.Topic, where string, args ...any) ([]sqllog.Row, error) {
	rows, err := d.db.QueryContext(ctx, "SELECT `offset`, `uuid`, `payload`, `metadata`, UNIX_TIMESTAMP(created_at) FROM "+d.Quote(t.Messages)+" WHERE "+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []sqllog.Row
	for rows.Next() {
		var r sqllog.Row
		var created float64
		if err := rows.Scan(&r.Pos.Off, &r.UUID, &r.Payload, &r.Metadata, &created); err != nil {
			return nil, err
		}
		r.Created = time.UnixMilli(int64(created * 1000))
		out = append(out, r)
	}
	return out, rows.Err()
}

// End waits for the transactions that are inserting, for their rows are before what is published after it.
func (d *dialect) End(ctx context.Context, t *sqllog.Topic) (sqllog.Pos, []sqllog.Pos, error) {
	var off sql.NullInt64
	err := d.db.QueryRowContext(ctx, "SELECT MAX(`offset`) FROM "+d.Quote(t.Messages)+" LOCK IN SHARE MODE").Scan(&off)
	return sqllog.Pos{Off: off.Int64}, nil, err
}

// Stall finds the oldest transaction that writes, if one is in a gap that Read has met. It needs the PROCESS privilege
// to name it.
func (d *dialect) Stall(ctx context.Context, t *sqllog.Topic, _ sqllog.Pos) (*sqllog.Stall, error) {
	g := d.gapsOf(t.Messages)
	d.mu.Lock()
	held := g.held
	d.mu.Unlock()
	if held.IsZero() {
		return nil, nil
	}
	s := &sqllog.Stall{Age: time.Since(held)}
	var seconds float64
	err := d.db.QueryRowContext(ctx, `SELECT trx_mysql_thread_id, TIMESTAMPDIFF(SECOND, trx_started, NOW()) FROM information_schema.innodb_trx
		WHERE trx_rows_modified > 0 ORDER BY trx_started LIMIT 1`).Scan(&s.PID, &seconds)
	if err == nil {
		s.Age = max(s.Age, time.Duration(seconds)*time.Second)
	}
	return s, nil //nolint:nilerr // without the privilege, the age is all there is
}
