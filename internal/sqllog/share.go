package sqllog

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// share takes partitions of the group that are free, up to what is this subscription's share, and gives up those beyond
// it. Each has a consumer of its own. It returns when the subscription is closed and all consumers have ended.
func (s *Subscription) share() {
	freed := s.l.hub.join(leaseText(s.t.Name))
	defer s.l.hub.leave(leaseText(s.t.Name), freed)
	var running sync.WaitGroup
	m := &member{s: s}
	for s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(s.ctx, ioTimeout)
		err := s.shareOnce(ctx, m, &running)
		cancel()
		if err != nil && s.ctx.Err() == nil {
			s.report(err)
		}
		standby := time.NewTimer(min(time.Second, s.l.cfg.Lease/4))
		select {
		case <-s.ctx.Done():
		case <-freed:
		case <-s.ended:
		case <-standby.C:
		}
		standby.Stop()
	}
	running.Wait()
	s.release()
	m.leave()
}

// leaseText is what wakes those who wait for a lease on topic.
func leaseText(topic string) string { return "lease of " + topic }

// holding is who has the lease of a partition.
type holding struct {
	part, parts int
	owner       string // empty if the lease is free
}

// shareOnce looks at the group once. The look is a read: those who only stand by keep nobody from writing.
func (s *Subscription) shareOnce(ctx context.Context, m *member, running *sync.WaitGroup) error {
	parts := s.l.cfg.Partitions
	if parts == 1 && s.isConsuming(0) {
		return nil // there is nothing to share, and its consumer sees by itself when the lease is lost
	}
	members := []string{s.owner}
	if parts > 1 {
		var err error
		if members, err = m.meet(ctx); err != nil {
			return err
		}
	}
	all, err := s.holdings(ctx)
	if err != nil {
		return err
	}
	holds := map[string]int{}
	for _, h := range all {
		holds[h.owner]++
	}
	if len(all) > 0 && all[0].parts != parts {
		if holds[""] < len(all) {
			return nil // those who know the old number are still there
		}
		if err := s.repartition(ctx); err != nil {
			return err
		}
		poke(s.ended) // to look again
		return nil
	}
	due := shareOf(s.owner, parts, members, holds)
	s.shed(holds[s.owner] - due)
	for _, h := range all {
		// What is still this subscription's and has no consumer was not given back when its consumer ended.
		if mine := h.owner == s.owner; !mine && (h.owner != "" || holds[s.owner] >= due) || s.isConsuming(h.part) {
			continue
		} else if !mine {
			holds[s.owner]++
		}
		c := s.consumers[h.part]
		le, err := c.acquire(ctx)
		if err != nil {
			return err
		}
		if le != nil {
			c.start(le, running)
		}
	}
	return nil
}

func (s *Subscription) holdings(ctx context.Context) ([]holding, error) {
	q := s.l.d.Bind("SELECT part, parts, CASE WHEN expires_ms > " + s.l.d.Now() + " THEN owner ELSE '' END FROM postbus_groups WHERE topic = ? AND grp = ?")
	rows, err := s.l.db.QueryContext(ctx, q, s.t.Name, s.group)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var all []holding
	for rows.Next() {
		var h holding
		if err := rows.Scan(&h.part, &h.parts, &h.owner); err != nil {
			return nil, err
		}
		all = append(all, h)
	}
	return all, rows.Err()
}

// shareOf returns how many of parts are for owner, who is one of members. The shares differ by one at most; the greater
// ones are of those who hold more, so that as few as can be change hands.
func shareOf(owner string, parts int, members []string, holds map[string]int) int {
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b string) int {
		return cmp.Or(cmp.Compare(holds[b], holds[a]), cmp.Compare(a, b))
	})
	share := parts / len(members)
	if slices.Index(members, owner) < parts%len(members) {
		share++
	}
	return share
}

// shed has consumers give up n partitions, those included that do so already.
func (s *Subscription) shed(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.consumers {
		if c.w != nil && !c.sheds.IsZero() {
			n--
		}
	}
	for _, c := range s.consumers {
		if n > 0 && c.w != nil && c.sheds.IsZero() && time.Now().After(c.keeps) {
			c.sheds = time.Now()
			poke(c.kick)
			n--
		}
	}
}

func (s *Subscription) isConsuming(part int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.consumers[part].running
}

// member is a subscription's row in postbus_members, by which the others know that it is there.
type member struct {
	s    *Subscription
	told time.Time // when it was written last; zero if it never was
}

// meet says that this member is there, when it is time to, and returns who else is.
func (m *member) meet(ctx context.Context) ([]string, error) {
	s, l := m.s, m.s.l
	if time.Since(m.told) > l.cfg.Lease/3 {
		now := time.Now()
		if err := m.tell(ctx); err != nil {
			return nil, err
		}
		m.told = now
	}
	q := l.d.Bind("SELECT owner FROM postbus_members WHERE topic = ? AND grp = ? AND expires_ms > " + l.d.Now())
	rows, err := l.db.QueryContext(ctx, q, s.t.Name, s.group)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	members := []string{s.owner}
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		if name != s.owner {
			members = append(members, name)
		}
	}
	return members, rows.Err()
}

func (m *member) tell(ctx context.Context) error {
	s, l := m.s, m.s.l
	defer l.d.Writing()()
	q := l.d.Bind("UPDATE postbus_members SET expires_ms = " + l.d.Now() + " + ? WHERE topic = ? AND grp = ? AND owner = ?")
	res, err := l.db.ExecContext(ctx, q, l.cfg.Lease.Milliseconds(), s.t.Name, s.group, s.owner)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n > 0 {
		return err
	}
	q = l.d.Bind("INSERT INTO postbus_members (topic, grp, owner, expires_ms) VALUES (?, ?, ?, " + l.d.Now() + " + ?)")
	if _, err := l.db.ExecContext(ctx, q, s.t.Name, s.group, s.owner, l.cfg.Lease.Milliseconds()); err != nil {
		return err
	}
	// Who comes clears away those who went without a word.
	q = l.d.Bind("DELETE FROM postbus_members WHERE topic = ? AND grp = ? AND expires_ms <= " + l.d.Now())
	_, err = l.db.ExecContext(ctx, q, s.t.Name, s.group)
	return err
}

// leave takes the row away, so that the others need not wait until it runs out.
func (m *member) leave() {
	if s := m.s; !m.told.IsZero() && !s.l.crashed.Load() {
		s.bye("DELETE FROM postbus_members WHERE topic = ? AND grp = ? AND owner = ?")
	}
}

// bye writes something last; q is about the topic, the group and the owner.
func (s *Subscription) bye(q string) {
	l := s.l
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	defer l.d.Writing()()
	if _, err := l.db.ExecContext(ctx, l.d.Bind(q), s.t.Name, s.group, s.owner); err != nil {
		l.cfg.Logger.Debug("postbus: the others wait for a lease to run out", "driver", l.d.Name(), "topic", s.t.Name, "group", s.group, "error", err)
	}
}
