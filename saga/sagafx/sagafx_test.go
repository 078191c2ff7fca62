package sagafx_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/describe"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagafx"
	"github.com/postbus/postbus/store/storefx"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{ ID string }

func (placed) EventName() string { return "orders.placed" }

type requested struct{ ID string }

func (requested) EventName() string { return "payments.requested" }

type captured struct{ ID string }

func (captured) EventName() string { return "payments.captured" }

// payments answers what the saga asks for.
type payments struct{ events bus.Publisher }

func (p *payments) capture(ctx context.Context, e requested) error {
	return p.events.Publish(ctx, captured(e))
}

// warehouse is what a step of the saga needs.
type warehouse struct{ shipped chan string }

func newCheckout(w *warehouse) saga.Saga {
	return saga.Definition[placed]{
		Name: "checkout", Version: 1,
		Start: saga.StartOn(func(e placed) (string, placed) { return e.ID, e }),
		Steps: []saga.Step[placed]{
			{Name: "charge", Timeout: time.Hour,
				Do: func(ctx context.Context, r *saga.Run[placed]) error {
					return r.Publish(ctx, requested{ID: r.Key()})
				},
				Await: saga.Replies(saga.Continue(func(*placed, captured) error { return nil },
					func(e captured) string { return e.ID })),
			},
			{Name: "ship", Pivot: true, Do: func(_ context.Context, r *saga.Run[placed]) error {
				w.shipped <- r.Key()
				return nil
			}},
		},
	}
}

// options are the same program for all databases.
func options(url string) []fx.Option {
	return []fx.Option{
		sagafx.Provide(newCheckout),
		sagafx.Module,
		busfx.Module,
		outboxfx.Module,
		busfx.Handle("payments", (*payments).capture),
		fx.Provide(func(events bus.Publisher) *payments { return &payments{events} }),
		fx.Provide(func() *warehouse { return &warehouse{make(chan string, 10)} }),
		storefx.Module,
		configfx.Load("", []string{"POSTBUS_TRANSPORT=" + url, "POSTBUS_STORE=" + url}),
		fx.Supply(slog.New(slog.DiscardHandler)),
		fx.NopLogger,
	}
}

func TestASagaRunsToItsEndOnEveryDatabase(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "shop.db") },
		"postgres": func(t *testing.T) string { return testdb.New(t, testservices.Postgres(t)) },
		"mysql":    func(t *testing.T) string { return testdb.New(t, testservices.MySQL(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runsToItsEnd(t, url(t))
		})
	}
}

func runsToItsEnd(t *testing.T, url string) {
	var events bus.Publisher
	var w *warehouse
	var o *saga.Orchestrator
	var b *bus.Bus
	began := time.Now()
	app := fx.New(append(options(url), fx.Populate(&events, &w, &o, &b))...)
	ctx, cancel := context.WithCancel(t.Context())
	if err := app.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("started within %v", time.Since(began))
	if diagram := describe.Mermaid(describe.Program{Description: b.Describe()}); !strings.Contains(diagram, `{{"saga.checkout"}}`) {
		t.Errorf("the diagram does not show the saga as one:\n%s", diagram)
	}
	cancel() // nothing runs on the context of the start
	if err := events.Publish(t.Context(), placed{"o-1"}); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-w.shipped:
		if got != "o-1" {
			t.Errorf("shipped %q", got)
		}
	case <-time.After(time.Minute):
		i, err := o.Get(t.Context(), "checkout", "o-1")
		t.Fatalf("nothing is shipped: %+v, %v", i, err)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestMistakesAreReported(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(options("sqlite:" + filepath.Join(t.TempDir(), "shop.db"))...); err != nil {
		t.Error(err)
	}
	err := fx.New(append(options("sqlite:"+filepath.Join(t.TempDir(), "shop.db")), sagafx.Define(saga.Definition[placed]{Name: "empty", Version: 1}),
		busfx.Handle("payments", (*payments).capture))...).Err()
	for _, want := range []string{`saga "empty"`, "already, from", "sagafx_test.go:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
}
