package quarantine

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/postbus/postbus/bus"
)

const (
	// handleLease is for how long the first of a line may be in the hands of a handler before it is published again.
	handleLease = 15 * time.Minute
	// publishAgain is after how long a publication is tried again that failed.
	publishAgain = 5 * time.Second
)

// turn is what is to be done with a message whose key is parked.
type turn uint8

const (
	free  turn = iota // the key is parked no more: handle it
	first             // it is the first of its line, and on its way: handle it, and then say so
	waits             // it is in the line
	over              // it was handled
)

// take finds out whose turn it is. A message that is not in its line yet joins it at the end.
func (s *Store) take(ctx context.Context, a *failure) (turn, error) {
	of, at := s.linesOf(a.group), place{a.topic, a.message.Key}
	known := of.find(at)
	result, open := free, false
	err := s.tx(ctx, func(tx *sql.Tx) (err error) {
		result = free
		if open, _, _, err = s.lock(ctx, tx, a.line); err != nil {
			return err
		}
		var id int64
		var status Status
		var claim string
		var lined bool
		q := "SELECT id, status, claim, line IS NOT NULL FROM postbus_quarantine WHERE ident = ?"
		err = tx.QueryRowContext(ctx, s.bind(q), a.ident).Scan(&id, &status, &claim, &lined)
		fresh := errors.Is(err, sql.ErrNoRows)
		switch {
		case err != nil && !fresh:
			return err
		case !fresh && status == Handled && (open || a.token != ""): // its acknowledgement was lost
			result = over
			return nil
		case !open:
			return nil
		case fresh:
			result = waits
			return s.insertEntries(ctx, tx, []*failure{a})
		case lined && status == Replaying && claim == a.token:
			result = first
			_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine_key SET due_ms = ? WHERE line = ?", leaseEnd(handleLease), a.line)
			return err
		case !lined && (status == Replayed || status == Replaying): // replayed before the key was parked
			_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine SET status = ?, line = ?, claim = '' WHERE id = ?", int(Parked), a.line, id)
		}
		result = waits // also an older replay than the one that is on its way
		return err
	})
	if err == nil && !open && known != 0 {
		of.forget(at, known)
	}
	return result, err
}

// lock locks a line, and reports whether there is one.
func (s *Store) lock(ctx context.Context, tx *sql.Tx, line []byte) (open, draining bool, due int64, err error) {
	q := "SELECT draining, due_ms FROM postbus_quarantine_key WHERE line = ?" + s.forUpdate(false)
	err = tx.QueryRowContext(ctx, s.bind(q), line).Scan(&draining, &due)
	if errors.Is(err, sql.ErrNoRows) {
		return false, false, 0, nil
	}
	return err == nil, draining, due, err
}

// extend keeps the first of a line from being published again while it comes again by itself.
func (s *Store) extend(ctx context.Context, line []byte, by time.Duration) {
	_, err := s.exec(ctx, s.db.SQL(), "UPDATE postbus_quarantine_key SET due_ms = ? WHERE line = ?", leaseEnd(by), line)
	if err != nil {
		s.cfg.Logger.Debug("quarantine: a lease was not extended; the message may come twice", "error", err)
	}
}

// handled notes that the first of a line was handled, and publishes the next.
func (s *Store) handled(ctx context.Context, a *failure) error {
	var next *claimed
	err := s.tx(ctx, func(tx *sql.Tx) error {
		next = nil
		if open, _, _, err := s.lock(ctx, tx, a.line); !open || err != nil {
			return err
		}
		n, err := s.exec(ctx, tx, `UPDATE postbus_quarantine SET status = ?, line = NULL, last_ms = ?, claim_ms = 0
			WHERE ident = ? AND status = ? AND claim = ?`, int(Handled), nowMS(), a.ident, int(Replaying), a.token)
		if err == nil && n > 0 {
			next, err = s.advance(ctx, tx, a.line)
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := s.point("handled"); err != nil {
		return err
	}
	s.publishNext(ctx, next)
	return nil
}

// advance takes the first of a line, which the caller has locked, to be published. It returns nil if that waits for
// somebody's decision, or nothing is left: then the line ends.
func (s *Store) advance(ctx context.Context, tx *sql.Tx, line []byte) (*claimed, error) {
	var c claimed
	var status Status
	var token string
	q := "SELECT id, status, claim FROM postbus_quarantine WHERE line = ? AND status IN (?, ?, ?) ORDER BY id LIMIT 1" + s.forUpdate(false)
	err := tx.QueryRowContext(ctx, s.bind(q), line, int(Waiting), int(Parked), int(Replaying)).Scan(&c.id, &status, &token)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		_, err = s.exec(ctx, tx, "DELETE FROM postbus_quarantine_key WHERE line = ?", line)
		return nil, err
	case err != nil:
		return nil, err
	case status == Waiting:
		_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine_key SET draining = 0 WHERE line = ?", line)
		return nil, err
	case status == Parked:
		token = lineToken + newToken()
		_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine SET status = ?, claim = ?, claim_ms = ?, replays = replays + 1 WHERE id = ?",
			int(Replaying), token, leaseEnd(claimLease), c.id)
		if err != nil {
			return nil, err
		}
	}
	_, err = s.exec(ctx, tx, "UPDATE postbus_quarantine_key SET draining = 1, due_ms = ? WHERE line = ?", leaseEnd(claimLease), line)
	if err != nil {
		return nil, err
	}
	c.line = line
	return &c, s.load(ctx, tx, []*claimed{&c}, token)
}

// publishNext publishes the first of a line. If the transport is in trouble Run tries again; a message that it refuses
// waits for somebody's decision.
func (s *Store) publishNext(ctx context.Context, c *claimed) {
	if c == nil {
		return
	}
	errs, err := s.publish(ctx, c.topic, []*claimed{c})
	if err == nil && errs[0] == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	if err != nil {
		s.cfg.Logger.Warn("quarantine: the next of a parked key could not be published, and is tried again", "entry", c.id, "error", err)
		s.extend(ctx, c.line, publishAgain)
		return
	}
	d := bus.NewDelivery(&c.message, c.topic, c.group, 0)
	if f, broken := newFailure(d, errs[0]); broken == nil {
		f.line = c.line
		broken = s.write(ctx, []*failure{f})
		s.cfg.Logger.Error("quarantine: the transport refuses the next of a parked key", "entry", c.id, "error", errors.Join(errs[0], broken))
	}
}

// drain publishes the first of a line if it is time to.
func (s *Store) drain(ctx context.Context, line []byte) error {
	var next *claimed
	err := s.tx(ctx, func(tx *sql.Tx) error {
		next = nil
		_, draining, due, err := s.lock(ctx, tx, line)
		if err != nil || !draining || due > nowMS() {
			return err
		}
		next, err = s.advance(ctx, tx, line)
		return err
	})
	if err == nil {
		s.publishNext(ctx, next)
	}
	return err
}

// start has lines drained from now on, those that are drained already left alone.
func (s *Store) start(ctx context.Context, tx *sql.Tx, lines [][]byte) error {
	for _, line := range lines {
		q := "UPDATE postbus_quarantine_key SET due_ms = CASE WHEN draining = 1 THEN due_ms ELSE 0 END WHERE line = ?"
		if _, err := s.exec(ctx, tx, q, line); err != nil {
			return err
		}
		if _, err := s.exec(ctx, tx, "UPDATE postbus_quarantine_key SET draining = 1 WHERE line = ?", line); err != nil {
			return err
		}
	}
	return nil
}
