package quarantine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/postbus/postbus/bus"
)

const (
	// putBatch is how many messages share a commit, at most, and putBytes how many bytes of payload.
	putBatch = 256
	putBytes = 4 << 20
)

// Put implements middleware.Quarantine. Concurrent calls share a commit: those that come while one is under way go together
// in the next. If it fails, each tries alone, so that one message that the database refuses does not hold up others.
//
// A message that is here already stays one entry: its history grows, and if it was replayed it waits again. With
// Config.ParkKeys its key is parked with the same commit.
func (s *Store) Put(ctx context.Context, d *bus.Delivery, cause error) error {
	f, err := newFailure(d, cause)
	if err != nil {
		return fmt.Errorf("quarantine: put %q: %w", d.Message().ID, err)
	}
	if !s.parks(f.group) && !strings.HasPrefix(f.token, lineToken) {
		f.line = nil
	}
	if err := s.Prepare(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	err = s.puts.join(ctx, f, s.writeShared)
	if errors.Is(err, errShared) {
		err = s.write(ctx, []*failure{f})
	}
	if err != nil {
		return fmt.Errorf("quarantine: put %q: %w", f.message.ID, err)
	}
	return nil
}

// errShared: the commit that a call shared has failed.
var errShared = errors.New("the commit failed")

// writeShared writes what several calls have asked for, none of which must be kept by the end of another's context.
func (s *Store) writeShared(ctx context.Context, batch []*failure) error {
	if len(batch) == 1 {
		return s.write(ctx, batch)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.Timeout)
	defer cancel()
	if err := s.write(ctx, batch); err != nil {
		return fmt.Errorf("%w: %w", errShared, err)
	}
	return nil
}

// puts lets concurrent calls of Put share commits: one of them leads, which writes its own message and what waits.
type puts struct {
	mu    sync.Mutex
	queue []*waiting
	led   bool
}

type waiting struct {
	failure *failure
	turn    chan bool // true: lead; false: done
	err     error
}

// join has f written, together with others, by the caller or by another one.
func (p *puts) join(ctx context.Context, f *failure, write func(context.Context, []*failure) error) error {
	w := &waiting{failure: f, turn: make(chan bool, 1)}
	p.mu.Lock()
	p.queue = append(p.queue, w)
	if !p.led {
		p.led = true
		w.turn <- true
	}
	p.mu.Unlock()
	lead := false
	select {
	case lead = <-w.turn:
	case <-ctx.Done():
		if p.leave(w) {
			return ctx.Err()
		}
		lead = <-w.turn // it is being written, or leads
	}
	if !lead {
		return w.err
	}
	batch := p.take(w)
	err := errors.New("the write panicked")
	defer func() {
		p.pass(batch, w, err)
	}()
	list := make([]*failure, len(batch))
	for i := range batch {
		list[i] = batch[i].failure
	}
	err = write(ctx, list)
	return err
}

// leave takes w out of the queue, and reports false if it is not there any more, or is to lead.
func (p *puts) leave(w *waiting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(w.turn) > 0 {
		return false
	}
	for i := range p.queue {
		if p.queue[i] == w {
			p.queue = append(p.queue[:i], p.queue[i+1:]...)
			return true
		}
	}
	return false
}

// take takes a batch out of the queue, that of the leader first. No message is in it twice.
func (p *puts) take(leader *waiting) []*waiting {
	p.mu.Lock()
	defer p.mu.Unlock()
	batch, size := []*waiting{leader}, len(leader.failure.message.Payload)
	var rest []*waiting
	for _, w := range p.queue {
		switch {
		case w == leader:
		case len(batch) == putBatch || size+len(w.failure.message.Payload) > putBytes || contains(batch, w.failure.ident):
			rest = append(rest, w)
		default:
			batch, size = append(batch, w), size+len(w.failure.message.Payload)
		}
	}
	p.queue = rest
	return batch
}

func contains(batch []*waiting, ident []byte) bool {
	for _, w := range batch {
		if bytes.Equal(w.failure.ident, ident) {
			return true
		}
	}
	return false
}

// pass tells the others of a batch how it went, and lets the next one lead.
func (p *puts) pass(batch []*waiting, leader *waiting, err error) {
	for _, w := range batch {
		if w != leader {
			w.err = err
			w.turn <- false
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		p.led = false
		return
	}
	p.queue[0].turn <- true
}
