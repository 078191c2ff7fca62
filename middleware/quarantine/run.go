package quarantine

import (
	"context"
	"time"
)

const (
	// drainPause is how often Run looks for lines whose draining was interrupted.
	drainPause = 2 * time.Second
	// keepHouse is how often Run looks for what has expired, and for replays that were interrupted.
	keepHouse = time.Minute
	// drainLimit is how many lines it takes at once.
	drainLimit = 200
)

// Run does until ctx ends what nobody else does: it goes on with parked keys whose draining was interrupted, lets entries
// wait again whose replay was, and expires. One instance of a program has to run it, and all may. It returns nil; errors
// are logged, and it tries again.
func (s *Store) Run(ctx context.Context) error {
	if s.err != nil {
		return s.err
	}
	report := func(what string, err error) {
		if err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("quarantine: "+what, "error", err)
		}
	}
	ticker := time.NewTicker(drainPause)
	defer ticker.Stop()
	for next := time.Now(); ; {
		report("parked keys were not looked for", s.resume(ctx))
		if now := time.Now(); !now.Before(next) {
			next = now.Add(keepHouse)
			report("interrupted replays were not looked for", s.reclaim(ctx))
			_, err := s.Expire(ctx)
			report("expired entries were not removed", err)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// resume drains the lines that nobody does.
func (s *Store) resume(ctx context.Context) error {
	if s.cfg.Transport == nil {
		return nil
	}
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	var due [][]byte
	q := "SELECT line FROM postbus_quarantine_key WHERE draining = 1 AND due_ms <= ? ORDER BY due_ms LIMIT ?"
	err := s.query(ctx, s.db.SQL(), q, []any{nowMS(), drainLimit}, func(row scanner) error {
		var line []byte
		err := row.Scan(&line)
		due = append(due, line)
		return err
	})
	if err != nil {
		return err
	}
	return s.drainAll(ctx, due)
}

func (s *Store) drainAll(ctx context.Context, lines [][]byte) error {
	if s.cfg.Transport == nil {
		return nil // who has one goes on with them
	}
	for _, line := range lines {
		if err := s.drain(ctx, line); err != nil {
			return err
		}
	}
	return nil
}
