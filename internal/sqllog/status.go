package sqllog

import (
	"context"
	"sort"
	"time"

	"github.com/postbus/postbus/transport"
)

// lagLimit bounds the counting of a backlog.
const lagLimit = 10_000_000

// Ping asks the database for a sign of life.
func (l *Log) Ping(ctx context.Context) error {
	if l.ctx.Err() != nil {
		return transport.ErrClosed
	}
	if err := l.db.PingContext(ctx); err != nil {
		return l.errorf("ping: %w", err)
	}
	return nil
}

// Status tells how far each group of each topic of this database has come.
func (l *Log) Status(ctx context.Context) ([]transport.GroupStatus, error) { return l.status(ctx, "") }

// StatusOf is Status of one topic.
func (l *Log) StatusOf(ctx context.Context, topic string) ([]transport.GroupStatus, error) {
	return l.status(ctx, " WHERE topic = ?", topic)
}

// Owned reports whether somebody has the lease of a partition of the topic.
func (l *Log) Owned(ctx context.Context, topic string) (bool, error) {
	var n int
	q := l.d.Bind("SELECT COUNT(*) FROM postbus_groups WHERE topic = ? AND owner <> '' AND expires_ms > " + l.d.Now())
	if err := l.db.QueryRowContext(ctx, q, topic).Scan(&n); err != nil {
		return false, l.errorf("status: %w", err)
	}
	return n > 0, nil
}

func (l *Log) status(ctx context.Context, where string, args ...any) ([]transport.GroupStatus, error) {
	q := "SELECT topic, grp, part, parts, owner, expires_ms, state, " + l.d.Now() + " FROM postbus_groups" + where
	rows, err := l.db.QueryContext(ctx, l.d.Bind(q), args...)
	if err != nil {
		return nil, l.errorf("status: %w", err)
	}
	type raw struct {
		transport.GroupStatus
		state []byte
		owned bool
	}
	var all []raw
	for rows.Next() {
		var r raw
		var expires, now int64
		if err = rows.Scan(&r.Topic, &r.Group, &r.Partition, &r.Partitions, &r.Owner, &expires, &r.state, &now); err != nil {
			break
		}
		r.owned = expires > now
		all = append(all, r)
	}
	_ = rows.Close()
	if err == nil {
		err = rows.Err()
	}
	out := make([]transport.GroupStatus, 0, len(all))
	for i := range all {
		if err != nil {
			break
		}
		r := &all[i]
		if !r.owned {
			r.Owner = ""
		}
		g := r.GroupStatus
		if failed := l.lag(ctx, &g, r.state); failed != nil {
			g = r.GroupStatus
			g.Err, err = l.errorf("status of %q: %w", g.Topic, failed), ctx.Err()
		}
		out = append(out, g)
	}
	if err != nil {
		return nil, l.errorf("status: %w", err)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := &out[i], &out[j]
		if a.Topic != b.Topic {
			return a.Topic < b.Topic
		}
		if a.Group != b.Group {
			return a.Group < b.Group
		}
		return a.Partition < b.Partition
	})
	return out, nil
}

func (l *Log) lag(ctx context.Context, g *transport.GroupStatus, raw []byte) error {
	t, err := l.topic(ctx, g.Topic)
	if err != nil {
		return err
	}
	s, err := decodeState(raw)
	if err != nil {
		return err
	}
	at, found, err := l.d.Offset(ctx, l.db, t, consumerName(g.Group, g.Partition, g.Partitions))
	if err != nil {
		return err
	}
	if found {
		s.adopt(at)
	}
	n, oldest, err := l.d.Lag(ctx, t, s.run, lagLimit)
	if err != nil {
		return err
	}
	g.Lag, g.LagAge = n+len(s.pending), oldest
	if len(s.pending) > 0 {
		rows, err := l.d.Since(ctx, t, Pos{s.pending[0].pos.Tx, s.pending[0].pos.Off - 1}, time.Time{}, 1)
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			g.LagAge = max(g.LagAge, time.UnixMilli(l.clock.now()).Sub(rows[0].Created))
		}
	}
	stall, err := l.d.Stall(ctx, t, s.frontier)
	if err != nil {
		return err
	}
	if stall != nil {
		g.StalledBy, g.StalledFor = stall.PID, stall.Age
	}
	var waiting int
	q := l.d.Bind("SELECT COUNT(*) FROM postbus_later WHERE topic = ? AND grp = ? AND " + l.isDue())
	if err := l.db.QueryRowContext(ctx, q, g.Topic, g.Group).Scan(&waiting); err != nil {
		return err
	}
	if g.Partition == 0 {
		g.Lag += waiting
	}
	return nil
}
