package bus_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// placed is an event with a key.
type placed struct {
	Order string `json:"order"`
	N     int    `json:"n"`
}

func (placed) EventName() string  { return "orders.placed" }
func (p placed) EventKey() string { return p.Order }

// paid travels on the topic of placed, without a key.
type paid struct{ N int }

func (paid) EventName() string { return "orders.paid" }

// shipped travels on a topic of its own.
type shipped struct{ N int }

func (shipped) EventName() string { return "parcels.shipped" }

var quiet = slog.New(slog.DiscardHandler)

// newBus makes a bus, on a memory transport unless cfg has another.
func newBus(t testing.TB, cfg bus.Config) *bus.Bus {
	t.Helper()
	if cfg.Transport == nil {
		tr := memory.New(memory.Config{})
		t.Cleanup(func() { _ = tr.Close() })
		cfg.Transport = tr
	}
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	b, err := bus.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// start starts b, and stops it at the end of the test, which must go well.
func start(t testing.TB, b *bus.Bus) {
	t.Helper()
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Errorf("Stop at the end: %v", err)
		}
	})
}

// run makes and starts a bus with the handlers that wire declares.
func run(t testing.TB, cfg bus.Config, wire func(b *bus.Bus)) *bus.Bus {
	t.Helper()
	b := newBus(t, cfg)
	wire(b)
	start(t, b)
	return b
}

func publish(t testing.TB, p bus.Publisher, events ...bus.Event) {
	t.Helper()
	if err := p.Publish(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
}

// group configures one group.
func group(name string, cfg bus.GroupConfig) map[string]bus.GroupConfig {
	return map[string]bus.GroupConfig{name: cfg}
}

// record is a list that handlers write to.
type record[E any] struct {
	mu   sync.Mutex
	list []E
}

func (r *record[E]) add(e E) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.list = append(r.list, e)
}

func (r *record[E]) all() []E {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]E(nil), r.list...)
}

func (r *record[E]) handle(_ context.Context, e E) error {
	r.add(e)
	return nil
}

// spy is a middleware that records deliveries and their outcome.
type spy struct {
	deliveries record[*bus.Delivery]
	errs       record[error]
}

func (s *spy) middleware(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		err := next(ctx, d)
		s.deliveries.add(d)
		s.errs.add(err)
		return err
	}
}

// swallow is a middleware that acknowledges what failed, as quarantine does.
func swallow(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		_ = next(ctx, d)
		return nil
	}
}

func expect[E any](t testing.TB, what string, got, want E) {
	t.Helper()
	if g, w := fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want); g != w {
		t.Errorf("%s = %s, want %s", what, g, w)
	}
}

func expectError(t testing.TB, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Errorf("no error, want one with %q", parts)
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

// foreign publishes a message as a program without this library would.
func foreign(t testing.TB, tr transport.Transport, topic string, m transport.Message) {
	t.Helper()
	if m.ID == "" {
		m.ID = "foreign"
	}
	if err := tr.Publish(t.Context(), topic, []transport.Message{m}); err != nil {
		t.Fatal(err)
	}
}
