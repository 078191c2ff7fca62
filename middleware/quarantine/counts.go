package quarantine

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/store"
)

// tally is how a transaction changes the number of entries that wait, by fingerprint. It is written at the end, in the
// order of fingerprints: two transactions then wait for each other shortly, and rarely crosswise.
type tally struct {
	more map[string]*counted
	less map[string]int
}

// kind is what entries of one fingerprint have in common, with the errors of one of them.
type kind struct {
	fp, group, event string
	errors           []string
}

type counted struct {
	kind
	n           int
	first, last int64
}

func (t *tally) add(k kind, at int64) {
	if t.more == nil {
		t.more = map[string]*counted{}
	}
	c := t.more[k.fp]
	if c == nil {
		c = &counted{kind: k, first: at}
		t.more[k.fp] = c
	}
	c.n++
	c.first, c.last = min(c.first, at), max(c.last, at)
}

func (t *tally) drop(fp string, n int) {
	if t.less == nil {
		t.less = map[string]int{}
	}
	t.less[fp] += n
}

// count writes what has changed.
func (s *Store) count(ctx context.Context, tx *sql.Tx, t *tally) error {
	if err := s.countMore(ctx, tx, t); err != nil {
		return err
	}
	for _, fp := range slices.Sorted(maps.Keys(t.less)) {
		if _, err := s.exec(ctx, tx, "UPDATE postbus_quarantine_kind SET n = n - ? WHERE fp = ?", t.less[fp], fp); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "DELETE FROM postbus_quarantine_kind WHERE fp = ? AND n <= 0", fp); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) countMore(ctx context.Context, tx *sql.Tx, t *tally) error {
	if len(t.more) == 0 {
		return nil
	}
	var fps, groups, events, patterns, samples []string
	var ns, firsts, lasts []int64
	for _, fp := range slices.Sorted(maps.Keys(t.more)) {
		c := t.more[fp]
		fps, groups, events = append(fps, fp), append(groups, c.group), append(events, c.event)
		patterns = append(patterns, text(pattern(c.errors[len(c.errors)-1])))
		samples = append(samples, text(cut(c.errors[0], maxPast)))
		ns, firsts, lasts = append(ns, int64(c.n)), append(firsts, c.first), append(lasts, c.last)
	}
	return s.insert(ctx, tx, &table{name: "postbus_quarantine_kind", rows: len(fps), columns: []column{
		{name: "fp", texts: fps}, {name: "grp", texts: groups}, {name: "event", texts: events}, {name: "pattern", texts: patterns},
		{name: "sample", texts: samples}, {name: "n", ints: ns}, {name: "first_ms", ints: firsts}, {name: "last_ms", ints: lasts},
	}}, s.merge())
}

// merge is how a row of counts joins one that is there.
func (s *Store) merge() string {
	switch s.db.Dialect() {
	case store.Postgres:
		return ` ON CONFLICT (fp) DO UPDATE SET n = postbus_quarantine_kind.n + excluded.n,
			last_ms = GREATEST(postbus_quarantine_kind.last_ms, excluded.last_ms)`
	case store.MySQL:
		return " ON DUPLICATE KEY UPDATE n = n + VALUES(n), last_ms = GREATEST(last_ms, VALUES(last_ms))"
	}
	return " ON CONFLICT (fp) DO UPDATE SET n = n + excluded.n, last_ms = MAX(last_ms, excluded.last_ms)"
}

// Fingerprint is what failures of one kind have in common: the group, the event, and the innermost error without quoted
// values, UUIDs and numbers.
type Fingerprint struct {
	// Fingerprint is its name, 16 hexadecimal digits.
	Fingerprint string
	Group       string
	// Event is empty for messages of foreign publishers that name none.
	Event string
	// Pattern is the innermost error with "#" for what differs, and Sample the whole text of one. They are as they came,
	// control characters included; who prints them escapes those.
	Pattern, Sample string
	// Count is how many entries wait now.
	Count int
	// First and Last are the times of failures among them; First can be that of one that has left.
	First, Last time.Time
}

// Fingerprints returns the kinds of failures that wait, the most frequent first, at most limit of them. Of the filter it
// reads Group, Event and Fingerprint.
func (s *Store) Fingerprints(ctx context.Context, f Filter, limit int) ([]Fingerprint, error) {
	if err := s.Prepare(ctx); err != nil {
		return nil, err
	}
	var w where
	w.names(f)
	q := "SELECT fp, grp, event, pattern, sample, n, first_ms, last_ms FROM postbus_quarantine_kind" + w.text() +
		" ORDER BY n DESC LIMIT ?"
	var list []Fingerprint
	err := s.query(ctx, s.db.SQL(), q, append(w.args, limit), func(row scanner) error {
		var p Fingerprint
		var pattern, sample string
		var first, last int64
		if err := row.Scan(&p.Fingerprint, &p.Group, &p.Event, &pattern, &sample, &p.Count, &first, &last); err != nil {
			return err
		}
		p.First, p.Last = timeOf(first), timeOf(last)
		list = append(list, p)
		return errJSON(decode(pattern, &list[len(list)-1].Pattern), decode(sample, &list[len(list)-1].Sample))
	})
	if err != nil {
		return nil, fmt.Errorf("quarantine: fingerprints: %w", err)
	}
	return list, nil
}

// Count returns how many entries match. Without a message id and an age it costs as little for a million as for one.
func (s *Store) Count(ctx context.Context, f Filter) (int, error) {
	if err := s.Prepare(ctx); err != nil {
		return 0, err
	}
	var w where
	q := "SELECT COUNT(*) FROM postbus_quarantine"
	if f.byName() {
		q = "SELECT CAST(COALESCE(SUM(n), 0) AS " + s.integer() + ") FROM postbus_quarantine_kind"
		w.names(f)
	} else if err := w.entries(s, f); err != nil {
		return 0, fmt.Errorf("quarantine: count: %w", err)
	}
	var n int
	if err := s.db.SQL().QueryRowContext(ctx, s.bind(q+w.text()), w.args...).Scan(&n); err != nil {
		return 0, fmt.Errorf("quarantine: count: %w", err)
	}
	return n, nil
}

// integer is the type that sums are cast to.
func (s *Store) integer() string {
	if s.db.Dialect() == store.MySQL {
		return "SIGNED"
	}
	return "bigint"
}
