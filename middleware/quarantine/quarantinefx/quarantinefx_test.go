package quarantinefx_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/middleware/quarantine/quarantinefx"
	"github.com/postbus/postbus/store/storefx"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct {
	ID, Key string
}

func (placed) EventName() string  { return "orders.placed" }
func (e placed) EventKey() string { return e.Key }

// billing declines until it is told otherwise.
type billing struct {
	pays    atomic.Bool
	charged chan string
}

func (b *billing) charge(_ context.Context, e placed) error {
	if !b.pays.Load() {
		return bus.Permanent(errors.New("declined"))
	}
	b.charged <- e.ID
	return nil
}

// options are in a wrong-looking order: what needs comes before what is needed.
func options(transport, store string, environ ...string) []fx.Option {
	return []fx.Option{
		busfx.Handle("billing", (*billing).charge),
		quarantinefx.Module,
		busfx.Module,
		storefx.Module,
		configfx.Load("", append(environ, "POSTBUS_TRANSPORT="+transport, "POSTBUS_STORE="+store)),
		fx.Provide(func() *billing { return &billing{charged: make(chan string, 10)} }),
		fx.Supply(slog.New(slog.DiscardHandler)),
		fx.NopLogger,
	}
}

// started is an application that runs until the end of the test.
func started(t *testing.T, opts ...fx.Option) (events bus.Publisher, b *billing, q *quarantine.Store) {
	t.Helper()
	app := fx.New(append(opts, fx.Populate(&events, &b, &q))...)
	ctx, cancel := context.WithCancel(t.Context())
	if err := app.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // nothing runs on the context of the start
	t.Cleanup(func() {
		if err := app.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return events, b, q
}

// waiting waits until n entries have a status.
func waiting(t *testing.T, q *quarantine.Store, s quarantine.Status, n int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		switch got, err := q.Count(t.Context(), quarantine.Filter{Status: s}); {
		case err != nil:
			t.Fatal(err)
		case got == n:
			return
		case time.Now().After(deadline):
			t.Fatalf("%d entries are %s, want %d", got, s, n)
		}
	}
}

func TestWhatCannotBeHandledIsKeptAndReplayed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	events, b, q := started(t, options("sqlite:"+filepath.Join(dir, "bus.db"), "sqlite:"+filepath.Join(dir, "shop.db"))...)
	if err := events.Publish(t.Context(), placed{ID: "o-1"}); err != nil {
		t.Fatal(err)
	}
	waiting(t, q, quarantine.Waiting, 1)
	list, _, err := q.List(t.Context(), quarantine.Filter{}, quarantine.Page{})
	if err != nil || len(list) != 1 {
		t.Fatalf("got %+v, %v", list, err)
	}
	if err := q.Edit(t.Context(), list[0].ID, quarantine.Edit{Payload: []byte(`{"ID":7}`)}); !errors.Is(err, quarantine.ErrUndecodable) {
		t.Fatalf("a payload that the handler cannot take: %v", err)
	}
	b.pays.Store(true)
	if r, err := q.Replay(t.Context(), quarantine.Filter{All: true}, quarantine.ReplayOptions{}); err != nil || r.Replayed != 1 {
		t.Fatalf("replayed %+v, %v", r, err)
	}
	if got := <-b.charged; got != "o-1" {
		t.Errorf("charged %q", got)
	}
}

// What the configuration says is done by the store, and what it has to do by itself is done while the application runs.
func TestKeysAreParkedAndEntriesExpire(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		events, b, q := started(t, options("memory:", "sqlite::memory:", "POSTBUS_GROUPS__BILLING__PARK_KEYS=true",
			"POSTBUS_QUARANTINE__RETENTION=5m")...)
		if err := events.Publish(t.Context(), placed{"o-1", "ada"}); err != nil {
			t.Fatal(err)
		}
		waiting(t, q, quarantine.Waiting, 1)
		if err := events.Publish(t.Context(), placed{"o-2", "ada"}, placed{"o-3", "ada"}); err != nil {
			t.Fatal(err)
		}
		waiting(t, q, quarantine.Parked, 2)
		b.pays.Store(true)
		began := time.Now()
		for _, want := range []string{"o-2", "o-3"} { // o-1 is gone, and they wait for it no more
			if got := <-b.charged; got != want {
				t.Errorf("charged %q, want %q", got, want)
			}
		}
		if took := time.Since(began); took < 4*time.Minute || took > 7*time.Minute {
			t.Errorf("the first has expired after %v, want 5m, by the retention of the configuration", took)
		}
	})
}

func TestMistakesAreReported(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(options("memory:", "sqlite::memory:")...); err != nil {
		t.Error(err)
	}
	apart := func(t transport.Transport) transport.Transport { return without{t} }
	err := fx.New(append(options("memory:", "sqlite::memory:", "POSTBUS_GROUPS__BILLING__PARK_KEYS=true", "POSTBUS_GROUPS__NOBODY__PARK_KEYS=true"), fx.Decorate(apart))...).Err()
	for _, want := range []string{"keys cannot be parked", `"nobody", which handles nothing`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}

// without is a transport that cannot bring a message to one group alone.
type without struct{ transport.Transport }

func (w without) Capabilities() transport.Capabilities {
	c := w.Transport.Capabilities()
	c.Target = false
	return c
}
