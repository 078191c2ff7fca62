package quarantine

import (
	"context"
	"database/sql"
	"encoding/json"
	"slices"
	"time"

	"github.com/postbus/postbus/store"
)

// write puts messages into the database in one transaction. No two of them are the same. As a rule none is there already,
// and that is found out by trying.
func (s *Store) write(ctx context.Context, batch []*failure) error {
	slices.SortFunc(batch, func(a, b *failure) int { return slices.Compare(a.ident, b.ident) }) // so that none locks crosswise
	look := slices.ContainsFunc(batch, func(f *failure) bool { return f.token != "" || f.lost })
	for {
		err := s.tx(ctx, func(tx *sql.Tx) error { return s.writeIn(ctx, tx, batch, look) })
		if err == nil {
			s.parked(batch)
		}
		if !store.IsDuplicate(err) || ctx.Err() != nil {
			return err
		}
		look = true // after that, another instance has written one of them since
	}
}

func (s *Store) writeIn(ctx context.Context, tx *sql.Tx, batch []*failure, look bool) (err error) {
	if err := s.park(ctx, tx, batch); err != nil {
		return err
	}
	var known map[string]*past
	if look {
		if known, err = s.known(ctx, tx, batch); err != nil {
			return err
		}
	}
	var counts tally
	var fresh []*failure
	for _, f := range batch {
		if old := known[string(f.ident)]; old == nil {
			fresh = append(fresh, f)
			counts.add(f.kind, f.at)
		} else if err := s.again(ctx, tx, old, f, &counts); err != nil {
			return err
		}
	}
	if err := s.insertEntries(ctx, tx, fresh); err != nil {
		return err
	}
	return s.count(ctx, tx, &counts)
}

// past is what is known of an entry when its message fails again.
type past struct {
	id                 int64
	status             Status
	fp, errors, detail string
	attempts, replays  int
}

// known finds the entries that are there already, and locks them.
func (s *Store) known(ctx context.Context, tx *sql.Tx, batch []*failure) (map[string]*past, error) {
	idents := make([][]byte, len(batch))
	for i, f := range batch {
		idents[i] = f.ident
	}
	found := map[string]*past{}
	these, args := in(s, "ident", idents)
	q := "SELECT ident, id, status, fp, attempts, replays, errors, detail FROM postbus_quarantine WHERE " + these + " ORDER BY ident" + s.forUpdate(false)
	err := s.query(ctx, tx, q, args, func(row scanner) error {
		var ident []byte
		var p past
		if err := row.Scan(&ident, &p.id, &p.status, &p.fp, &p.attempts, &p.replays, &p.errors, &p.detail); err != nil {
			return err
		}
		found[string(ident)] = &p
		return nil
	})
	return found, err
}

// detail is what of an entry only Show needs.
type detail struct {
	Stack   string   `json:"stack,omitempty"`
	History []record `json:"history"`
	Omitted int      `json:"omitted,omitempty"` // of the history, after its first
}

type record struct {
	At      int64  `json:"at"`
	Attempt int    `json:"attempt"`
	Replay  int    `json:"replay,omitempty"`
	Error   string `json:"error"`
}

// add appends to the history; of a long one the first and the last stay.
func (d *detail) add(r record) {
	d.History = append(d.History, r)
	if len(d.History) > maxHistory {
		d.History = slices.Delete(d.History, 1, 2)
		d.Omitted++
	}
}

func (f *failure) record(replay int) record {
	return record{At: f.at, Attempt: f.attempt, Replay: replay, Error: cut(f.errors[0], maxPast)}
}

func text(v any) string {
	out, _ := json.Marshal(v) // of texts and numbers
	return string(out)
}

// again grows the entry of a message that is here already.
func (s *Store) again(ctx context.Context, tx *sql.Tx, old *past, f *failure, counts *tally) error {
	var d detail
	if err := json.Unmarshal([]byte(old.detail), &d); err != nil {
		return err
	}
	d.add(f.record(old.replays))
	k := f.kind
	if f.lost && old.fp != "" { // what is known of the failure says more
		k.fp = old.fp
		if err := decode(old.errors, &k.errors); err != nil {
			return errJSON(err)
		}
	} else {
		d.Stack = f.stack
	}
	attempts := old.attempts + 1
	if old.status == Waiting {
		counts.drop(old.fp, 1)
	} else {
		attempts = old.attempts + f.attempt
	}
	counts.add(k, f.at)
	q, args := `UPDATE postbus_quarantine SET status = ?, fp = ?, last_ms = ?, attempts = ?, claim = '', claim_ms = 0,
		errors = ?, detail = ?`, []any{int(Waiting), k.fp, f.at, attempts, text(k.errors), text(d)}
	if f.line != nil {
		q, args = q+", line = ?", append(args, f.line)
	}
	_, err := s.exec(ctx, tx, q+" WHERE id = ?", append(args, old.id)...)
	return err
}

// insertEntries writes new entries.
func (s *Store) insertEntries(ctx context.Context, tx *sql.Tx, fresh []*failure) error {
	if len(fresh) == 0 {
		return nil
	}
	n := len(fresh)
	idents, lines, payloads := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	statuses, times, attempts, zeros := make([]int64, n), make([]int64, n), make([]int64, n), make([]int64, n)
	var groups, topics, events, fps, claims, ids, keys, headers, errors, details []string
	for i, f := range fresh {
		d := detail{Stack: f.stack}
		if f.status == Waiting {
			d.add(f.record(0))
		}
		idents[i], lines[i], payloads[i] = f.ident, f.line, f.message.Payload
		if f.message.Payload == nil {
			payloads[i] = []byte{}
		}
		statuses[i], times[i], attempts[i] = int64(f.status), f.at, int64(f.attempt)
		groups, topics, events, fps = append(groups, f.group), append(topics, f.topic), append(events, f.event), append(fps, f.fp)
		claims, ids, keys = append(claims, ""), append(ids, f.message.ID), append(keys, f.message.Key)
		headers, errors, details = append(headers, text(f.headers)), append(errors, text(f.errors)), append(details, text(d))
	}
	return s.insert(ctx, tx, &table{name: "postbus_quarantine", rows: n, columns: []column{
		{name: "ident", bytes: idents}, {name: "line", bytes: lines}, {name: "status", ints: statuses}, {name: "grp", texts: groups},
		{name: "topic", texts: topics}, {name: "event", texts: events}, {name: "fp", texts: fps}, {name: "first_ms", ints: times},
		{name: "last_ms", ints: times}, {name: "attempts", ints: attempts}, {name: "replays", ints: zeros}, {name: "claim", texts: claims},
		{name: "claim_ms", ints: zeros}, {name: "msg_id", texts: ids}, {name: "msg_key", texts: keys}, {name: "headers", texts: headers},
		{name: "errors", texts: errors}, {name: "detail", texts: details}, {name: "new_body", ints: zeros}, {name: "payload", bytes: payloads},
	}}, "")
}

func timeOf(ms int64) time.Time { return time.UnixMilli(ms) }
