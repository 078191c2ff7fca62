package sqllog

import (
	"context"
	"database/sql"
	"errors"
	"slices"

	"github.com/postbus/postbus/transport"
)

// join makes the rows of a group, unless they are there. A group that Watermill began keeps its offset.
func (l *Log) join(ctx context.Context, t *Topic, cfg *transport.SubscribeConfig) error {
	var n int
	q := l.d.Bind("SELECT COUNT(*) FROM postbus_groups WHERE topic = ? AND grp = ?")
	if err := l.db.QueryRowContext(ctx, q, t.Name, cfg.Group).Scan(&n); err != nil || n > 0 {
		return err
	}
	first, skip, err := l.startAt(ctx, t, cfg.Start)
	if err != nil {
		return err
	}
	return l.inTx(ctx, func(tx *sql.Tx) error {
		alone := consumerName(cfg.Group, 0, 1)
		at, found, err := l.d.Offset(ctx, tx, t, alone)
		if err != nil {
			return err
		}
		if found {
			first, skip = at, nil
		}
		return l.createParts(ctx, tx, t, cfg.Group, first, skip, 0)
	})
}

func (l *Log) createParts(ctx context.Context, tx *sql.Tx, t *Topic, group string, first Pos, skip []Pos, token int64) error {
	s := state{prefix: first, run: first, frontier: first, skip: skip}
	for part := range l.cfg.Partitions {
		consumer := consumerName(group, part, l.cfg.Partitions)
		if err := l.d.CreateOffset(ctx, tx, t, consumer, first); err != nil {
			return err
		}
		q := l.d.Bind(l.d.InsertIgnore("INSERT INTO postbus_groups (topic, grp, part, parts, token, state) VALUES (?, ?, ?, ?, ?, ?)"))
		if _, err := tx.ExecContext(ctx, q, t.Name, group, part, l.cfg.Partitions, token, s.encode()); err != nil {
			return err
		}
	}
	return nil
}

// startAt finds where a new group begins.
func (l *Log) startAt(ctx context.Context, t *Topic, start transport.Start) (Pos, []Pos, error) {
	switch {
	case start.Now():
		return l.d.End(ctx, t)
	case start.Time().IsZero():
		return Pos{}, nil, nil
	}
	rows, err := l.d.Since(ctx, t, Pos{}, start.Time(), 1)
	if err != nil {
		return Pos{}, nil, err
	}
	if len(rows) == 0 {
		return l.d.End(ctx, t)
	}
	p := rows[0].Pos
	return Pos{p.Tx, p.Off - 1}, nil, nil
}

// lease is the right to consume one partition.
type lease struct {
	token int64
	state state
}

// acquire takes the lease if it is free, or was left to this subscription by a consumer that ended; nil if it is not.
func (c *consumer) acquire(ctx context.Context) (*lease, error) {
	l, now := c.s.l, c.s.l.d.Now()
	const key = " WHERE topic = ? AND grp = ? AND part = ?"
	q := l.d.Bind("UPDATE postbus_groups SET owner = ?, token = token + 1, expires_ms = " + now + " + ?" + key +
		" AND parts = ? AND (owner = '' OR owner = ? OR expires_ms <= " + now + ")")
	c.leaves(true)
	done := l.d.Writing()
	res, err := l.db.ExecContext(ctx, q, c.owner, l.cfg.Lease.Milliseconds(), c.s.t.Name, c.s.group, c.part, l.cfg.Partitions, c.owner)
	done()
	if err != nil {
		return nil, err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		c.leaves(err != nil)
		return nil, err
	}
	var raw []byte
	le := &lease{}
	q = l.d.Bind("SELECT token, state FROM postbus_groups" + key + " AND owner = ?")
	err = l.db.QueryRowContext(ctx, q, c.s.t.Name, c.s.group, c.part, c.owner).Scan(&le.token, &raw)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if le.state, err = decodeState(raw); err != nil {
		return nil, l.errorf("group %q of %q: %w", c.s.group, c.s.t.Name, err)
	}
	at, found, err := l.d.Offset(ctx, l.db, c.s.t, c.consumer)
	if err != nil {
		return nil, err
	}
	if !found { // deleted by hand: the state knows
		at = le.state.prefix
		if err := l.d.CreateOffset(ctx, l.db, c.s.t, c.consumer, at); err != nil {
			return nil, err
		}
	}
	le.state.adopt(at)
	return le, nil
}

// release gives back leases that were taken and came to nothing, for the subscription closed in between.
func (s *Subscription) release() {
	s.mu.Lock()
	left := slices.ContainsFunc(s.consumers, func(c *consumer) bool { return c.left })
	s.mu.Unlock()
	if !left || s.l.crashed.Load() {
		return
	}
	s.bye("UPDATE postbus_groups SET owner = '', expires_ms = 0 WHERE topic = ? AND grp = ? AND owner = ?")
}

// repartition makes new rows for a group that had another number of partitions, once nobody consumes it any more. All
// begin at the least of the old offsets: messages that were settled beyond it come once more.
func (s *Subscription) repartition(ctx context.Context) error {
	l, t := s.l, s.t
	return l.inTx(ctx, func(tx *sql.Tx) error {
		q := l.d.Bind("UPDATE postbus_groups SET parts = parts WHERE topic = ? AND grp = ?")
		if _, err := tx.ExecContext(ctx, q, t.Name, s.group); err != nil {
			return err
		}
		var busy, parts int
		var token int64
		q = l.d.Bind("SELECT COUNT(CASE WHEN owner <> '' AND expires_ms > " + l.d.Now() + " THEN 1 END), MAX(parts), MAX(token)" +
			" FROM postbus_groups WHERE topic = ? AND grp = ?")
		if err := tx.QueryRowContext(ctx, q, t.Name, s.group).Scan(&busy, &parts, &token); err != nil {
			return err
		}
		if busy > 0 || parts == l.cfg.Partitions {
			return nil
		}
		var least *Pos
		for part := range parts {
			at, found, err := l.d.Offset(ctx, tx, t, consumerName(s.group, part, parts))
			if err != nil {
				return err
			}
			if found && (least == nil || at.before(*least)) {
				least = &at
			}
			q := l.d.Bind("DELETE FROM " + l.d.Quote(t.Offsets) + " WHERE consumer_group = ?")
			if _, err := tx.ExecContext(ctx, q, consumerName(s.group, part, parts)); err != nil {
				return err
			}
		}
		if least == nil {
			least = &Pos{}
		}
		q = l.d.Bind("DELETE FROM postbus_groups WHERE topic = ? AND grp = ?")
		if _, err := tx.ExecContext(ctx, q, t.Name, s.group); err != nil {
			return err
		}
		return l.createParts(ctx, tx, t, s.group, *least, nil, token)
	})
}
