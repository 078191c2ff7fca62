package dedup

import (
	"context"
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
	handled, err := g.take(ctx, k)
	if err != nil {
		return err
	}
	if handled {
		passedOver(ctx, log, d)
		return nil
	}
	succeeded := false // until it returns, if it does
	defer func() { g.leave(k, succeeded) }()
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
		g, _ = m.groups.LoadOrStore(name, &groupKeys{name: name, retention: m.retention, max: m.max, keys: map[key]mark{}})
	}
	m.last.Store(g.(*groupKeys))
	return g.(*groupKeys)
}

// groupKeys is the keys of one group.
type groupKeys struct {
	name      string
	retention time.Duration
	max       int

	mu    sync.Mutex
	keys  map[key]mark
	order []recorded // from first on, oldest first
	first int
}

// mark is what is known of a key.
type mark struct {
	at   time.Time     // when it was recorded; zero while it is being handled
	over chan struct{} // closed when that is over; nil if nobody waits for it
}

// recorded is a key in the order of time. If its mark has another time by now, it says nothing.
type recorded struct {
	key
	at time.Time
}

// take waits while another delivery handles the key. It reports whether it was handled; if not it is the caller's, until
// leave.
func (g *groupKeys) take(ctx context.Context, k key) (handled bool, err error) {
	for {
		g.mu.Lock()
		m, known := g.keys[k]
		if known && !m.at.IsZero() {
			if g.retention < 0 || time.Since(m.at) < g.retention {
				g.mu.Unlock()
				return true, nil
			}
			known = false
		}
		if !known {
			g.keys[k] = mark{}
			g.mu.Unlock()
			return false, nil
		}
		if m.over == nil {
			m.over = make(chan struct{})
			g.keys[k] = m
		}
		g.mu.Unlock()
		if err := halt.Ended(ctx, "dedup: wait"); err != nil {
			return false, err
		}
		select {
		case <-m.over:
		case <-ctx.Done():
		case <-bus.Stopping(ctx):
		}
	}
}

// leave records the key, if it was handled, and lets others have it.
func (g *groupKeys) leave(k key, handled bool) {
	g.mu.Lock()
	over := g.keys[k].over
	if handled {
		now := time.Now()
		g.keys[k] = mark{at: now}
		g.order = append(g.order, recorded{k, now})
		g.forget(now)
	} else {
		delete(g.keys, k)
	}
	g.mu.Unlock()
	if over != nil {
		close(over)
	}
}

// forget removes what is too much or too old.
func (g *groupKeys) forget(now time.Time) {
	for g.first < len(g.order) {
		oldest := &g.order[g.first]
		if len(g.order)-g.first <= g.max && (g.retention < 0 || now.Sub(oldest.at) < g.retention) {
			break
		}
		if g.keys[oldest.key].at.Equal(oldest.at) {
			delete(g.keys, oldest.key)
		}
		*oldest = recorded{}
		g.first++
	}
	if g.first > len(g.order)/2 {
		g.order = g.order[:copy(g.order, g.order[g.first:])]
		g.first = 0
	}
}
