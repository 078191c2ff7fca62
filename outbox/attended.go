package outbox

import (
	"context"
	"errors"
	"time"

	"github.com/postbus/postbus/store"
)

const (
	// forwardPatience is how long events are published without a Forwarder in this process until the database is asked for
	// one of another.
	forwardPatience = time.Minute
	// forwardAgain is the pause before it is asked once more.
	forwardAgain = 10 * time.Minute
	// forwardAsking bounds asking: somebody's transaction is open meanwhile.
	forwardAsking = time.Second
)

// attended notes that events are published, with Box.mu held, and reports whether it is time to ask who forwards them.
func (b *Box) attended(now time.Time) (ask bool) {
	switch {
	case len(b.forwarders) > 0 || b.log == nil:
		b.askAt = time.Time{}
	case b.askAt.IsZero():
		b.askAt = now.Add(b.patience)
	case !now.Before(b.askAt):
		b.askAt = now.Add(forwardAgain)
		return true
	}
	return false
}

// warnUnattended warns if no process forwards. If that is not known, it is found out later.
func (b *Box) warnUnattended(ctx context.Context) {
	owned, err := b.owned(ctx)
	switch {
	case err != nil:
		b.mu.Lock()
		b.askAt = time.Time{}
		b.mu.Unlock()
	case !owned:
		b.cfg.Logger.Warn("outbox: events wait, for no Forwarder runs, neither in this process nor in another: start one, "+
			"or set Config.Transport if the bus is on this database", "outbox", b.cfg.Name)
	}
}

var errNoConnection = errors.New("outbox: all connections are in use")

// owned reports whether a process forwards. It waits for no connection: the caller's transaction may have the last one.
func (b *Box) owned(ctx context.Context) (bool, error) {
	if s := b.db.SQL().Stats(); s.MaxOpenConnections > 0 && s.InUse >= s.MaxOpenConnections {
		return false, errNoConnection
	}
	ctx, cancel := context.WithTimeout(ctx, forwardAsking)
	defer cancel()
	owned, err := b.log.Owned(ctx, b.cfg.Name)
	if err == nil && !owned && b.db.Dialect() == store.Postgres { // one with Tail has the slot instead
		return b.tailed(ctx)
	}
	return owned, err
}

// tailed reports whether somebody reads the replication slot of a Forwarder with Tail.
func (b *Box) tailed(ctx context.Context) (bool, error) {
	wal, _, err := b.wal(ctx)
	if err != nil {
		return false, err
	}
	slot, err := wal.Slot(ctx)
	return slot.Reader != 0, err
}
