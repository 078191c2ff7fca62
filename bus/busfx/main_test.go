package busfx_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{ N int }

func (placed) EventName() string { return "orders.placed" }

type paid struct{ N int }

func (paid) EventName() string { return "orders.paid" }

// journal records what happens, in order.
type journal struct {
	mu    sync.Mutex
	lines []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines = append(j.lines, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// inOrder fails unless all of want happened, in that order.
func (j *journal) inOrder(t *testing.T, want ...string) {
	t.Helper()
	rest := j.all()
	for _, w := range want {
		i := slices.Index(rest, w)
		if i < 0 {
			t.Fatalf("journal %q has no %q in order %q", j.all(), w, want)
		}
		rest = rest[i+1:]
	}
}

func (j *journal) await(t *testing.T, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !slices.Contains(j.all(), want); {
		if time.Now().After(deadline) {
			t.Fatalf("journal %q has no %q", j.all(), want)
		}
		time.Sleep(time.Millisecond)
	}
}

// watched is a transport that records when it is used.
type watched struct {
	transport.Transport
	journal *journal
}

func (w *watched) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	w.journal.add("subscribe %s", cfg.Group)
	sub, err := w.Transport.Subscribe(ctx, cfg)
	return &watchedSub{sub, w.journal}, err
}

type watchedSub struct {
	transport.Subscription
	journal *journal
}

func (w *watchedSub) Close() error {
	w.journal.add("unsubscribe")
	return w.Subscription.Close()
}

func newTransport(lc fx.Lifecycle, j *journal) transport.Transport {
	t := memory.New(memory.Config{})
	hook(lc, j, "transport")
	lc.Append(fx.StopHook(t.Close))
	return &watched{t, j}
}

func hook(lc fx.Lifecycle, j *journal, name string) {
	lc.Append(fx.Hook{
		OnStart: func(context.Context) error { j.add("start %s", name); return nil },
		OnStop:  func(context.Context) error { j.add("stop %s", name); return nil },
	})
}

// database is what a handler needs.
type database struct{ journal *journal }

func newDatabase(lc fx.Lifecycle, j *journal) *database {
	hook(lc, j, "database")
	return &database{j}
}

// billing is a service with handlers.
type billing struct {
	db     *database
	events bus.Publisher
	block  chan struct{}
}

func newBilling(lc fx.Lifecycle, db *database, events bus.Publisher, j *journal) *billing {
	hook(lc, j, "billing")
	return &billing{db, events, make(chan struct{})}
}

func (b *billing) charge(ctx context.Context, e placed) error {
	b.db.journal.add("charge %d", e.N)
	if e.N < 0 {
		select {
		case <-b.block:
		case <-ctx.Done():
			b.db.journal.add("cancelled")
			return ctx.Err()
		}
	}
	b.db.journal.add("charged %d", e.N)
	return b.events.Publish(ctx, paid(e))
}

func (b *billing) note(_ context.Context, e paid) error {
	b.db.journal.add("paid %d", e.N)
	return nil
}

// here returns the place of the caller's line, moved by some lines.
func here(offset int) string {
	_, file, line, _ := runtime.Caller(1)
	return fmt.Sprintf("%s:%d: ", file, line+offset)
}

func expectError(t *testing.T, err error, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("error %v does not say %q", err, part)
		}
	}
}
