package quarantine

import (
	"context"
	"database/sql"
	"fmt"
	"time"
)

// sweepBatch is how many entries one transaction removes.
const sweepBatch = 500

// Discard removes entries for good, and returns how many. It removes in small transactions, and can be interrupted.
// Entries that are on their way (Replaying) cannot be discarded. What waited behind one of a parked key goes on.
func (s *Store) Discard(ctx context.Context, f Filter) (n int, err error) {
	if err := f.chosen(); err != nil {
		return 0, fmt.Errorf("quarantine: discard: %w", err)
	}
	if f.Status == Replaying {
		return 0, fmt.Errorf("quarantine: discard: %w: entries that are %s", ErrStatus, f.Status)
	}
	if now := time.UnixMilli(nowMS() + 1); f.Before.IsZero() || now.Before(f.Before) {
		f.Before = now // what fails from now on nobody has seen
	}
	if n, err = s.remove(ctx, f); err != nil {
		return n, fmt.Errorf("quarantine: discard: %w", err)
	}
	return n, nil
}

// Expire discards entries that have waited for longer than Config.Retention, and removes those that were replayed longer
// ago than Config.ReplayedRetention. It returns how many they were. Run does this now and then.
func (s *Store) Expire(ctx context.Context) (n int, err error) {
	if err := s.Prepare(ctx); err != nil {
		return 0, err
	}
	now := time.Now()
	for status, retention := range map[Status]time.Duration{
		Waiting: s.cfg.Retention, Replayed: s.cfg.ReplayedRetention, Handled: s.cfg.ReplayedRetention,
	} {
		if retention <= 0 {
			continue
		}
		gone, err := s.remove(ctx, Filter{Status: status, Before: now.Add(-retention)})
		if n += gone; err != nil {
			return n, fmt.Errorf("quarantine: expire: %w", err)
		}
	}
	return n, nil
}

// remove removes entries, the oldest first.
func (s *Store) remove(ctx context.Context, f Filter) (n int, err error) {
	for {
		removed, err := s.removeBatch(ctx, f)
		n += removed
		if err != nil || removed < sweepBatch {
			return n, err
		}
	}
}

func (s *Store) removeBatch(ctx context.Context, f Filter) (n int, err error) {
	var w where
	if err := w.entries(s, f); err != nil {
		return 0, err
	}
	q := "SELECT id, fp, line FROM postbus_quarantine" + w.text() + " ORDER BY last_ms, id LIMIT ?" + s.forUpdate(true)
	var gone []*claimed
	err = s.tx(ctx, func(tx *sql.Tx) error {
		n = 0
		gone = nil
		var counts tally
		err := s.query(ctx, tx, q, append(w.args, sweepBatch), func(row scanner) error {
			var c claimed
			var fp string
			if err := row.Scan(&c.id, &fp, &c.line); err != nil {
				return err
			}
			gone = append(gone, &c)
			if f.Status == Waiting {
				counts.drop(fp, 1)
			}
			return nil
		})
		if err != nil || len(gone) == 0 {
			return err
		}
		these, ids := in(s, "id", idsOf(gone))
		if n, err = s.exec(ctx, tx, "DELETE FROM postbus_quarantine WHERE "+these, ids...); err != nil {
			return err
		}
		if err := s.start(ctx, tx, linesIn(gone)); err != nil {
			return err
		}
		return s.count(ctx, tx, &counts)
	})
	if err != nil {
		return 0, err
	}
	return n, s.drainAll(ctx, linesIn(gone))
}
