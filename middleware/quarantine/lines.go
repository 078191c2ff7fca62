package quarantine

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"maps"
	"slices"
	"sync"

	"github.com/postbus/postbus/store"
)

// AllGroups in Config.ParkKeys stands for all groups.
const AllGroups = "*"

func (s *Store) parks(group string) bool {
	return slices.Contains(s.cfg.ParkKeys, group) || slices.Contains(s.cfg.ParkKeys, AllGroups)
}

// A line is what waits of one key of a topic in a group: a row of postbus_quarantine_key, which exists as long as there is
// an entry of the line that waits, is parked or is on its way. Who changes what becomes of a line holds that row's lock.
//
// lineOf names the line of a key.
func lineOf(group, topic, key string) []byte {
	h := sha256.Sum256([]byte(group + "\x00" + topic + "\x00" + key)) // names hold no control characters
	return h[:]
}

// place is where a key is parked, within a group.
type place struct{ topic, key string }

// lines is what a process knows of the parked keys of a group. Keys that are parked no more may be among them: who meets
// one asks the database.
type lines struct {
	group string

	mu   sync.RWMutex
	read int64           // the number up to which keys were read
	keys map[place]int64 // their numbers
}

// linesOf returns what is known of a group.
func (s *Store) linesOf(group string) *lines {
	s.linesMu.Lock()
	defer s.linesMu.Unlock()
	if s.lines == nil {
		s.lines = map[string]*lines{}
	}
	l := s.lines[group]
	if l == nil {
		l = &lines{group: group, keys: map[place]int64{}}
		s.lines[group] = l
	}
	return l
}

// find returns the number of a key, 0 if it is not known to be parked.
func (l *lines) find(p place) int64 {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if len(l.keys) == 0 {
		return 0
	}
	return l.keys[p]
}

func (l *lines) add(p place, number int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.keys[p] = max(l.keys[p], number)
}

// forget forgets a key that is parked no more, unless it was parked again meanwhile.
func (l *lines) forget(p place, number int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.keys[p] == number {
		delete(l.keys, p)
	}
}

// readLimit is how many keys are read at once.
const readLimit = 5000

// readLines learns which keys were parked since it was called last, here or elsewhere. Numbers are given under the lock of
// the group's row, so that they are committed in their order.
func (s *Store) readLines(ctx context.Context, l *lines) error {
	for {
		l.mu.RLock()
		from := l.read
		l.mu.RUnlock()
		n, last := 0, from
		q := "SELECT topic, msg_key, seq FROM postbus_quarantine_key WHERE grp = ? AND seq > ? ORDER BY seq LIMIT ?"
		err := s.query(ctx, s.db.SQL(), q, []any{l.group, from, readLimit}, func(row scanner) error {
			var p place
			if err := row.Scan(&p.topic, &p.key, &last); err != nil {
				return err
			}
			l.add(p, last)
			n++
			return nil
		})
		if err != nil {
			return err
		}
		if n > 0 {
			l.mu.Lock()
			l.read = max(l.read, last)
			l.mu.Unlock()
		}
		if n < readLimit {
			return nil
		}
	}
}

// park makes the lines of what is put, and stops those that were being drained.
func (s *Store) park(ctx context.Context, tx *sql.Tx, batch []*failure) error {
	byGroup := map[string][]*failure{}
	for _, f := range batch {
		if f.line != nil {
			byGroup[f.group] = append(byGroup[f.group], f)
		}
	}
	for _, group := range slices.Sorted(maps.Keys(byGroup)) {
		list := slices.SortedFunc(slices.Values(byGroup[group]), func(a, b *failure) int { return slices.Compare(a.line, b.line) })
		number, err := s.numbers(ctx, tx, group, len(list))
		if err != nil {
			return err
		}
		for _, f := range list {
			number++
			f.number = number
			q := "INSERT INTO postbus_quarantine_key (line, grp, topic, msg_key, seq, draining, due_ms) VALUES (?, ?, ?, ?, ?, 0, 0)"
			if s.db.Dialect() == store.MySQL {
				q += " ON DUPLICATE KEY UPDATE draining = 0"
			} else {
				q += " ON CONFLICT (line) DO UPDATE SET draining = 0"
			}
			if _, err := s.exec(ctx, tx, q, f.line, group, f.topic, f.message.Key, number); err != nil {
				return err
			}
		}
	}
	return nil
}

// numbers takes n numbers of a group, and returns the one before the first.
func (s *Store) numbers(ctx context.Context, tx *sql.Tx, group string, n int) (before int64, err error) {
	q := "INSERT INTO postbus_quarantine_seq (grp, seq) VALUES (?, ?)"
	switch s.db.Dialect() {
	case store.MySQL:
		q += " ON DUPLICATE KEY UPDATE seq = seq + VALUES(seq)"
	case store.Postgres:
		q += " ON CONFLICT (grp) DO UPDATE SET seq = postbus_quarantine_seq.seq + excluded.seq"
	default:
		q += " ON CONFLICT (grp) DO UPDATE SET seq = seq + excluded.seq"
	}
	if _, err := s.exec(ctx, tx, q, group, n); err != nil {
		return 0, err
	}
	err = tx.QueryRowContext(ctx, s.bind("SELECT seq FROM postbus_quarantine_seq WHERE grp = ?"), group).Scan(&before)
	return before - int64(n), err
}

// parked notes in memory what was put.
func (s *Store) parked(batch []*failure) {
	for _, f := range batch {
		if f.line != nil {
			s.linesOf(f.group).add(place{f.topic, f.message.Key}, f.number)
		}
	}
}
