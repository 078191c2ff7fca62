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
	mine, err := g.take(ctx, k)
	if err != nil {
		return err
	}
	if mine == nil {
		passedOver(ctx, log, d)
		return nil
	}
	succeeded := false // until it returns, if it does
	defer func() { g.leave(mine, succeeded) }()
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

// groupKeys is the keys of one group. They are known by 128 bits of hashes, and those that were handled in maps without
// pointers: most of the time that this takes goes into memory that is in no cache, and of a hundred thousand keys two share
// their bits once in 10^28 programs.
type groupKeys struct {
	name      string
	retention time.Duration
	max       int
	seeds     [2]maphash.Seed
	began     time.Time

	mu      sync.Mutex
	busy    map[digest]*mark         // being handled
	handled map[digest]time.Duration // when it was recorded, since began
	order   []recorded               // a ring, of max at most
	oldest  int                      // the place of the oldest in it
	count   int                      // how many it has
}

type digest [2]uint64

// recorded is a key in the order of time. If handled has another time for it by now, it says nothing.
type recorded struct {
	digest
	at time.Duration
}

// mark is a key that is being handled.
type mark struct {
	digest
	over chan struct{} // closed when that is over; nil if nobody waits for it
}

func newGroupKeys(name string, retention time.Duration, max int) *groupKeys {
	return &groupKeys{
		name: name, retention: retention, max: max, seeds: [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}, began: time.Now(),
		busy: map[digest]*mark{}, handled: map[digest]time.Duration{},
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

// take waits while another delivery handles the key. It returns nil if it was handled; else it is the caller's, until leave.
func (g *groupKeys) take(ctx context.Context, k key) (mine *mark, err error) {
	d := g.digest(k)
	for {
		g.mu.Lock()
		m := g.busy[d]
		if m == nil {
			at, known := g.handled[d]
			if known && (g.retention < 0 || time.Since(g.began)-at < g.retention) {
				g.mu.Unlock()
				return nil, nil
			}
			m = &mark{digest: d}
			g.busy[d] = m
			g.mu.Unlock()
			return m, nil
		}
		if m.over == nil {
			m.over = make(chan struct{})
		}
		over := m.over
		g.mu.Unlock()
		if err := halt.Ended(ctx, "dedup: wait"); err != nil {
			return nil, err
		}
		select {
		case <-over:
		case <-ctx.Done():
		case <-bus.Stopping(ctx):
		}
	}
}

// leave records the key, if it was handled, and lets others have it.
func (g *groupKeys) leave(m *mark, handled bool) {
	g.mu.Lock()
	delete(g.busy, m.digest)
	if handled {
		now := time.Since(g.began)
		g.forget(now)
		g.handled[m.digest] = now
		if g.count == len(g.order) {
			g.grow()
		}
		g.order[(g.oldest+g.count)%len(g.order)] = recorded{m.digest, now}
		g.count++
	}
	g.mu.Unlock()
	if m.over != nil {
		close(m.over)
	}
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
		if g.handled[r.digest] == r.at {
			delete(g.handled, r.digest)
		}
		g.oldest = (g.oldest + 1) % len(g.order)
		g.count--
	}
}
