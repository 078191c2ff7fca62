package dedup

import (
	"context"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// memory knows the keys of this process.
type memory struct {
	retention time.Duration
	max       int
	last      atomic.Pointer[groupKeys] // a program has few groups, and messages of one come together
	groups    sync.Map                  // of *groupKeys, by name
}

func (m *memory) handle(ctx context.Context, d *bus.Delivery, k key, next bus.Handler, log *slog.Logger) error {
	g := m.group(d.Group)
	id := g.digest(k)
	known, err := g.take(ctx, id)
	if err != nil {
		return err
	}
	if known {
		passedOver(ctx, log, d)
		return nil
	}
	succeeded := false // until it returns, if it does
	defer func() { g.leave(id, succeeded) }()
	err = next(ctx, d)
	succeeded = err == nil
	return err
}

func (m *memory) group(name string) *groupKeys {
	if g := m.last.Load(); g != nil && g.name == name {
		return g
	}
	g, ok := m.groups.Load(name)
	if !ok {
		g, _ = m.groups.LoadOrStore(name, newGroupKeys(name, m.retention, m.max))
	}
	m.last.Store(g.(*groupKeys))
	return g.(*groupKeys)
}

// groupKeys is the keys of one group. They are known by 128 bits of hashes, in a map without pointers: most of the time that
// this takes goes into memory that is in no cache, and of a hundred thousand keys two share their bits once in 10^28 programs.
type groupKeys struct {
	name      string
	retention time.Duration
	max       int
	seeds     [2]maphash.Seed
	began     time.Time

	mu      sync.Mutex
	known   map[digest]time.Duration // when it was recorded, since began; or busy
	waiting map[digest]chan struct{} // for one that is busy: closed when it is no longer
	order   []recorded               // a ring, of max at most
	oldest  int                      // the place of the oldest in it
	count   int                      // how many it has
}

// busy is a key that is being handled.
const busy time.Duration = -1

type digest [2]uint64

// recorded is a key in the order of time. If known has something else for it by now, it says nothing.
type recorded struct {
	digest
	at time.Duration
}

func newGroupKeys(name string, retention time.Duration, max int) *groupKeys {
	return &groupKeys{
		name: name, retention: retention, max: max, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, began: time.Now(),
		known: map[digest]time.Duration{}, waiting: map[digest]chan struct{}{},
	}
}

func (g *groupKeys) digest(k key) (d digest) {
	for i, seed := range g.seeds {
		if d[i] = maphash.String(seed, k.text); k.event != "" {
			d[i] = d[i]*31 + maphash.String(seed, k.event) // ids are of no event
		}
	}
	return d
}

// take waits while another delivery handles the key. It reports whether it was handled; else it is the caller's, until leave.
func (g *groupKeys) take(ctx context.Context, d digest) (handled bool, err error) {
	for {
		g.mu.Lock()
		at, known := g.known[d]
		if at != busy {
			handled = known && (g.retention < 0 || time.Since(g.began)-at < g.retention)
			if !handled {
				g.known[d] = busy
			}
			g.mu.Unlock()
			return handled, nil
		}
		over := g.waiting[d]
		if over == nil {
			over = make(chan struct{})
			g.waiting[d] = over
		}
		g.mu.Unlock()
		if err := halt.Ended(ctx, "dedup: wait"); err != nil {
			return false, err
		}
		select {
		case <-over:
		case <-ctx.Done():
		case <-bus.Stopping(ctx):
		}
	}
}

// leave records the key, if it was handled, and lets others have it.
func (g *groupKeys) leave(d digest, handled bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if over := g.waiting[d]; over != nil {
		delete(g.waiting, d)
		close(over)
	}
	if !handled {
		delete(g.known, d)
		return
	}
	now := time.Since(g.began)
	g.forget(now)
	g.known[d] = now
	if g.count == len(g.order) {
		g.grow()
	}
	g.order[(g.oldest+g.count)%len(g.order)] = recorded{d, now}
	g.count++
}

func (g *groupKeys) grow() {
	grown := make([]recorded, min(g.max, max(64, 2*len(g.order))))
	n := copy(grown, g.order[g.oldest:])
	copy(grown[n:], g.order[:g.oldest])
	g.order, g.oldest = grown, 0
}

// forget makes room for one more, and removes what is too old.
func (g *groupKeys) forget(now time.Duration) {
	for g.count > 0 {
		r := &g.order[g.oldest]
		if g.count < g.max && (g.retention < 0 || now-r.at < g.retention) {
			break
		}
		if g.known[r.digest] == r.at {
			delete(g.known, r.digest)
		}
		g.oldest = (g.oldest + 1) % len(g.order)
		g.count--
	}
}
