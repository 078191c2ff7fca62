package quarantine

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/store"
)

var _ middleware.Gate = (*Store)(nil)

// Gate implements middleware.Gate, for the groups of Config.ParkKeys: a message whose key is parked waits behind those of
// its key, and is acknowledged when the database has it.
//
// Which keys are parked is asked of the database once for each batch that the transport brings, so that a process that
// takes over from another knows what that one has parked. While the database cannot be asked, deliveries with a key wait
// in their workers, which uses up no attempt.
func (s *Store) Gate(next bus.Handler) bus.Handler {
	return (&gate{store: s, next: next, reading: make(chan struct{}, 1)}).handle
}

// gate stands around the deliveries of one topic to one group.
type gate struct {
	store   *Store
	next    bus.Handler
	reading chan struct{} // holds one while lines are read
	group   atomic.Pointer[gated]
	seen    atomic.Uint64 // the newest batch as of which the lines are known
}

// gated is the group, and its lines if they are kept.
type gated struct {
	name  string
	lines *lines
}

func (g *gate) handle(ctx context.Context, d *bus.Delivery) error {
	of := g.group.Load()
	if of == nil || of.name != d.Group { // there is one group to a handler, in a bus
		of = &gated{name: d.Group}
		if g.store.parks(d.Group) {
			of.lines = g.store.linesOf(d.Group)
		}
		g.group.Store(of)
	}
	if inTurn(d) { // also after ParkKeys was taken back
		return g.line(ctx, d)
	}
	if of.lines == nil {
		return g.next(ctx, d)
	}
	key := d.Key()
	if key == "" {
		return g.next(ctx, d)
	}
	if batch := d.Batch; batch == 0 || batch > g.seen.Load() {
		if err := g.read(ctx, batch, of.lines); err != nil {
			return err
		}
	}
	if of.lines.find(place{d.Topic, key}) == 0 {
		return g.next(ctx, d)
	}
	return g.line(ctx, d)
}

// lineToken begins the token of a replay of a line.
const lineToken = "line-"

// inTurn reports whether a delivery is the replay of one that waited in a line.
func inTurn(d *bus.Delivery) bool {
	if !d.HasEnvelope() {
		return false
	}
	metadata := d.Message().Metadata
	return metadata != nil && strings.HasPrefix(metadata[MetadataReplay], lineToken)
}

// read learns of the lines as of a time at which the batch had come.
func (g *gate) read(ctx context.Context, batch uint64, l *lines) error {
	select {
	case g.reading <- struct{}{}:
		defer func() { <-g.reading }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if batch != 0 && batch <= g.seen.Load() {
		return nil
	}
	err := g.store.insist(ctx, 0, func(ctx context.Context) error {
		if err := g.store.Prepare(ctx); err != nil {
			return err
		}
		return g.store.readLines(ctx, l)
	})
	if err == nil && batch != 0 {
		g.seen.Store(batch)
	}
	return err
}

// line handles a delivery whose key is, or was, parked.
func (g *gate) line(ctx context.Context, d *bus.Delivery) error {
	s := g.store
	a, err := newArrival(d)
	if err != nil {
		return fmt.Errorf("quarantine: park: %w", err)
	}
	var turn turn
	if err := s.insist(ctx, insistence, func(ctx context.Context) (err error) { turn, err = s.take(ctx, a); return err }); err != nil {
		return err
	}
	switch turn {
	case free:
		return g.next(ctx, d)
	case over:
		return nil
	case waits:
		return bus.SetAside(middleware.ErrParked)
	}
	err = g.next(ctx, d)
	if err != nil && !bus.IsSetAside(err) {
		if delay, asked := bus.RetryDelay(err); asked {
			s.extend(ctx, a.line, delay+handleLease)
		}
		return err
	}
	// If it went to quarantine again there is nothing to do, which the database knows.
	if failed := s.insist(ctx, insistence, func(ctx context.Context) error { return s.handled(ctx, a) }); failed != nil {
		return failed
	}
	return err
}

// Pauses between tries while the database does not answer.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
	// insistence is for how long one message waits for the database before it comes again: it might be the one that the
	// database refuses.
	insistence = time.Minute
)

// insist calls f until it succeeds, patience is over (0: never), or the delivery ends that ctx belongs to.
func (s *Store) insist(ctx context.Context, patience time.Duration, f func(context.Context) error) error {
	began := time.Now()
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		bounded, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
		err := f(bounded)
		cancel()
		if err == nil {
			if s.down.Load() && s.down.Swap(false) {
				s.cfg.Logger.Info("quarantine: the database answers again")
			}
			return nil
		}
		if ctx.Err() == nil && !store.IsConflict(err) && !s.down.Swap(true) {
			s.cfg.Logger.Warn("quarantine: the database cannot be asked about parked keys, and messages with a key wait for it", "error", err)
		}
		if patience > 0 && time.Since(began) > patience {
			return fmt.Errorf("quarantine: parked keys: %w", err)
		}
		if err := halt.Wait(ctx, pause, "quarantine: wait for the database"); err != nil {
			return err
		}
	}
}
