package quarantine

import (
	"bytes"
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/hex"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/transport"
)

// newToken names a replay.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// claimed is an entry that a replay has taken for itself.
type claimed struct {
	cursor
	group, topic string
	line         []byte
	message      transport.Message // as it is to be published
}

// scoop is what a look at the entries that wait has brought.
type scoop struct {
	batch   []*claimed // to be published now
	lined   []*claimed // of parked keys: they go in turn
	refused []*claimed
	last    cursor // of all of them
	any     bool
}

// claim takes up to n entries after a cursor, those that failed first first, so that no other call gets them. What check
// refuses waits as before.
func (s *Store) claim(ctx context.Context, f Filter, after cursor, n int, token string, check func(topic, group string) error) (*scoop, error) {
	var w where
	if begin := timeOf(after.last); begin.After(f.Since) {
		f.Since = begin
	}
	if err := w.entries(s, f); err != nil {
		return nil, err
	}
	w.and("(last_ms > ? OR id > ?)", after.last, after.id)
	q := `SELECT id, last_ms, fp, line, topic, grp, LENGTH(payload) + COALESCE(LENGTH(new_payload), 0) FROM postbus_quarantine` + w.text() +
		" ORDER BY last_ms, id LIMIT ?" + s.forUpdate(true)
	var taken *scoop
	err := s.tx(ctx, func(tx *sql.Tx) error {
		taken = &scoop{}
		var counts tally
		size := 0
		err := s.query(ctx, tx, q, append(w.args, n), func(row scanner) error {
			var c claimed
			var fp string
			var length int
			if err := row.Scan(&c.id, &c.last, &fp, &c.line, &c.topic, &c.group, &length); err != nil {
				return err
			}
			if size += length; size > replayBytes && taken.any {
				size = replayBytes + 1 // the rest is for the next batch
				return nil
			}
			taken.any, taken.last = true, c.cursor
			switch {
			case check(c.topic, c.group) != nil:
				taken.refused = append(taken.refused, &c)
				return nil
			case c.line != nil:
				taken.lined = append(taken.lined, &c)
			default:
				taken.batch = append(taken.batch, &c)
			}
			counts.drop(fp, 1)
			return nil
		})
		if err != nil {
			return err
		}
		if err := s.queue(ctx, tx, taken.lined); err != nil {
			return err
		}
		if len(taken.batch) > 0 {
			these, ids := in(s, "id", idsOf(taken.batch))
			_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine SET status = ?, claim = ?, claim_ms = ?, replays = replays + 1 WHERE "+these,
				append([]any{int(Replaying), token, leaseEnd(claimLease)}, ids...)...)
			if err != nil {
				return err
			}
			if err := s.load(ctx, tx, taken.batch, token); err != nil {
				return err
			}
		}
		return s.count(ctx, tx, &counts)
	})
	return taken, err
}

// queue has entries of parked keys replayed when it is their turn.
func (s *Store) queue(ctx context.Context, tx *sql.Tx, lined []*claimed) error {
	if len(lined) == 0 {
		return nil
	}
	these, ids := in(s, "id", idsOf(lined))
	_, err := s.exec(ctx, tx, "UPDATE postbus_quarantine SET status = ? WHERE "+these, append([]any{int(Parked)}, ids...)...)
	if err != nil {
		return err
	}
	return s.start(ctx, tx, linesIn(lined))
}

// linesIn returns the lines of entries, each once and in an order that all transactions share.
func linesIn(list []*claimed) (lines [][]byte) {
	for _, c := range list {
		if c.line != nil {
			lines = append(lines, c.line)
		}
	}
	slices.SortFunc(lines, bytes.Compare)
	return slices.CompactFunc(lines, bytes.Equal)
}

func leaseEnd(d time.Duration) int64 { return nowMS() + d.Milliseconds() }

func idsOf(batch []*claimed) []int64 {
	ids := make([]int64, len(batch))
	for i, c := range batch {
		ids[i] = c.id
	}
	return ids
}

// load reads what entries are to be published as.
func (s *Store) load(ctx context.Context, tx *sql.Tx, batch []*claimed, token string) error {
	byID := make(map[int64]*claimed, len(batch))
	for _, c := range batch {
		byID[c.id] = c
	}
	these, ids := in(s, "id", idsOf(batch))
	q := "SELECT id, grp, topic, headers, payload, new_headers, new_body, new_payload FROM postbus_quarantine WHERE " + these
	return s.query(ctx, tx, q, ids, func(row scanner) error {
		var id int64
		var group, topic, headers string
		var payload, newPayload []byte
		var edited sql.NullString
		var newBody bool
		if err := row.Scan(&id, &group, &topic, &headers, &payload, &edited, &newBody, &newPayload); err != nil {
			return err
		}
		m, changed, err := messages(headers, payload, edited, newBody, newPayload)
		if err != nil {
			return err
		}
		if changed != nil {
			m = *changed
		}
		m.TargetGroup, m.NotBefore, m.Attempts = group, time.Time{}, 0
		if m.Metadata = maps.Clone(m.Metadata); m.Metadata == nil {
			m.Metadata = map[string]string{}
		}
		m.Metadata[MetadataReplay] = token
		c := byID[id]
		c.group, c.topic, c.message = group, topic, m
		return nil
	})
}

// mark notes that entries were published. One that has failed again meanwhile waits, and is left alone.
func (s *Store) mark(ctx context.Context, ids []int64, token string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		these, args := in(s, "id", ids)
		_, err := s.exec(ctx, tx, "UPDATE postbus_quarantine SET status = ?, last_ms = ? WHERE status = ? AND claim = ? AND "+these,
			append([]any{int(Replayed), nowMS(), int(Replaying), token}, args...)...)
		return err
	})
}

// release lets entries wait again that were claimed and not published.
func (s *Store) release(ctx context.Context, ids []int64, token string) error {
	if len(ids) == 0 {
		return nil
	}
	return s.tx(ctx, func(tx *sql.Tx) error {
		these, args := in(s, "id", ids)
		_, err := s.wait(ctx, tx, "claim = ? AND "+these, append([]any{token}, args...)...)
		return err
	})
}

// reclaim lets entries wait again whose replay was interrupted.
func (s *Store) reclaim(ctx context.Context) error {
	for {
		n := 0
		err := s.tx(ctx, func(tx *sql.Tx) (err error) {
			n, err = s.wait(ctx, tx, "line IS NULL AND claim_ms < ? ORDER BY last_ms, id LIMIT ?", nowMS(), replayBatch)
			return err
		})
		if err != nil || n < replayBatch {
			return err
		}
	}
}

// wait turns entries that are on their way into ones that wait, and returns how many.
func (s *Store) wait(ctx context.Context, tx *sql.Tx, cond string, args ...any) (int, error) {
	var ids []int64
	var counts tally
	q := "SELECT id, fp, grp, event, errors, last_ms FROM postbus_quarantine WHERE status = ? AND " + cond + s.forUpdate(true)
	err := s.query(ctx, tx, q, append([]any{int(Replaying)}, args...), func(row scanner) error {
		var id, last int64
		var k kind
		var errors string
		if err := row.Scan(&id, &k.fp, &k.group, &k.event, &errors, &last); err != nil {
			return err
		}
		ids = append(ids, id)
		if err := decode(errors, &k.errors); err != nil {
			return errJSON(err)
		}
		counts.add(k, last)
		return nil
	})
	if err != nil || len(ids) == 0 {
		return 0, err
	}
	these, list := in(s, "id", ids)
	_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine SET status = ?, claim = '', claim_ms = 0 WHERE "+these,
		append([]any{int(Waiting)}, list...)...)
	if err != nil {
		return 0, err
	}
	return len(ids), s.count(ctx, tx, &counts)
}
