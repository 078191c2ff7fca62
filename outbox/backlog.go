package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

// Backlog is what waits to be forwarded.
type Backlog struct {
	// Messages is how many are committed, due and not forwarded, and Oldest the age of the oldest.
	Messages int
	Oldest   time.Duration
	// Owner is the Forwarder at work, as host/process id/a random text; empty if there is none.
	Owner string
	// Active says that it is this one.
	Active bool
	// StalledBy is the id of the process, in the database, whose open transaction keeps messages from being forwarded; 0
	// if none does. StalledFor is the age of that transaction.
	StalledBy  int
	StalledFor time.Duration
	// Held is how many messages this Forwarder holds that the target refuses, and that are not in quarantine.
	Held int
	// Err is why the target does not take messages of this Forwarder, and Since the time of the first failure; nil if it
	// takes them.
	Err   error
	Since time.Time
}

// Backlog asks the database. It may be called at any time.
func (f *Forwarder) Backlog(ctx context.Context) (Backlog, error) {
	all, err := f.Status(ctx)
	if err != nil {
		return Backlog{}, err
	}
	var b Backlog
	for _, s := range all {
		b.Messages, b.Oldest, b.Owner, b.StalledBy, b.StalledFor = s.Lag, s.LagAge, s.Owner, s.StalledBy, s.StalledFor
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b.Held, b.Active = f.held, b.Owner != "" && b.Owner == f.owner
	for topic, t := range f.trouble {
		if b.Err == nil || t.since.Before(b.Since) {
			b.Err, b.Since = fmt.Errorf("outbox: forward to %q: %w", topic, t.err), t.since
		}
	}
	return b, nil
}

// Status is the backlog as of a group of a transport, for who observes those.
func (f *Forwarder) Status(ctx context.Context) ([]transport.GroupStatus, error) {
	if err := f.box.Prepare(ctx); err != nil {
		return nil, err
	}
	all, err := f.box.log.StatusOf(ctx, f.box.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return all, nil
}

var _ transport.StatusReporter = (*Forwarder)(nil)

// trouble is why a topic waits.
type trouble struct {
	err   error
	since time.Time
}

func (f *Forwarder) failing(topic string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, old := f.trouble[topic]
	if !old {
		t.since = time.Now()
	}
	t.err = err
	f.trouble[topic] = t
}

func (f *Forwarder) settled(topic string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.trouble, topic)
}

// forget is for when f has nothing in hand any more.
func (f *Forwarder) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held = 0
	clear(f.trouble)
}

func (f *Forwarder) hold(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.held += n
}
