package outbox

import (
	"context"
	"fmt"
	"time"

	"github.com/postbus/postbus/internal/pgtail"
	"github.com/postbus/postbus/transport"
)

// Backlog is what waits to be forwarded.
type Backlog struct {
	// Messages is how many are committed, due and not forwarded, and Oldest the age of the oldest.
	Messages int
	Oldest   time.Duration
	// Owner is the Forwarder at work, as host/process id/a random text, with Tail the process of the server that sends to
	// it; empty if there is none.
	Owner string
	// Active says that it is this one.
	Active bool
	// StalledBy is the id of the process, in the database, whose open transaction keeps messages from being forwarded; 0
	// if none does. StalledFor is the age of that transaction.
	StalledBy  int
	StalledFor time.Duration
	// Retained is how many bytes of write-ahead log the server keeps for the replication slot, with ForwarderConfig.Tail.
	// It grows while nobody reads the slot.
	Retained int64
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
		if s.Err != nil {
			return Backlog{}, fmt.Errorf("outbox: %w", s.Err)
		}
		b.Messages, b.Oldest, b.Owner, b.StalledBy, b.StalledFor = s.Lag, s.LagAge, s.Owner, s.StalledBy, s.StalledFor
		b.Retained = s.Retained
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	b.Held, b.Active = f.held, b.Owner != "" && b.Owner == f.owner
	if f.cfg.Tail {
		b.Active = f.tail != nil && f.tail.isActive()
	}
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
	if f.cfg.Tail {
		return f.tailStatus(ctx)
	}
	all, err := f.box.log.StatusOf(ctx, f.box.cfg.Name)
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return all, nil
}

// tailStatus: what is in the table waits.
func (f *Forwarder) tailStatus(ctx context.Context) ([]transport.GroupStatus, error) {
	s := transport.GroupStatus{Topic: f.box.cfg.Name, Group: forwarderGroup, Partitions: 1}
	wal, table, err := f.box.wal(ctx)
	if err == nil {
		s.Lag, s.LagAge, err = table.count(ctx)
	}
	if err == nil {
		var slot pgtail.Slot
		slot, err = wal.Slot(ctx)
		if s.Retained = slot.Retained; slot.Reader != 0 {
			s.Owner = fmt.Sprint("replication process ", slot.Reader)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("outbox: %w", err)
	}
	return []transport.GroupStatus{s}, nil
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
