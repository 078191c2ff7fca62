package sagafx_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/middleware/quarantine/quarantinefx"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagafx"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/store/storefx"
	_ "github.com/postbus/postbus/transport/memory"
)

// ledger writes what it is told once the bus stops.
type ledger struct {
	box     *outbox.Box
	entered chan string
}

func newLedger(lc fx.Lifecycle, db *store.DB, box *outbox.Box) *ledger {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		_, err := db.SQL().ExecContext(ctx, `create table ledger (id text)`)
		return err
	}))
	return &ledger{box, make(chan string, 10)}
}

func (l *ledger) note(ctx context.Context, e requested) error {
	l.entered <- e.ID
	<-bus.Stopping(ctx)
	return l.box.Once(ctx, func(tx *outbox.Tx) error {
		if _, err := tx.ExecContext(ctx, `insert into ledger values (?)`, e.ID); err != nil {
			return err
		}
		return tx.Publish(ctx, captured(e))
	})
}

// slowly is a saga with a step that writes.
func slowly(l *ledger) saga.Saga {
	return saga.Definition[placed]{
		Name: "slowly", Version: 1,
		Start: saga.StartOn(func(e placed) (string, placed) { return e.ID, e }),
		Steps: []saga.Step[placed]{{Name: "write", Do: func(ctx context.Context, r *saga.Run[placed]) error {
			l.entered <- "saga"
			_, err := r.Tx().ExecContext(ctx, `insert into ledger values ('saga')`)
			return err
		}}},
	}
}

// Databases and transports start before the bus and stop after it has drained: what is in hand when the stop comes is
// committed, whatever the order of modules, with one database and with a forwarder.
func TestOrderOfLifeWhateverTheOrderOfModules(t *testing.T) {
	t.Parallel()
	modules := func(transport, store string) []fx.Option {
		return []fx.Option{
			busfx.Handle("ledger", (*ledger).note),
			sagafx.Provide(slowly),
			sagafx.Module,
			outboxfx.Module,
			quarantinefx.Module,
			busfx.Module,
			fx.Provide(newLedger),
			storefx.Module,
			configfx.Load("", []string{"POSTBUS_TRANSPORT=" + transport, "POSTBUS_STORE=" + store}),
		}
	}
	n := len(modules("", ""))
	for first := range n {
		for _, step := range []int{1, n - 1} {
			url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db") + "?synchronous=off"
			transport := url
			if first%2 == 1 {
				transport = "memory:"
			}
			all := modules(transport, url)
			opts := []fx.Option{fx.Supply(slog.New(slog.DiscardHandler)), fx.NopLogger}
			for i := range n {
				opts = append(opts, all[(first+i*step)%n])
			}
			stopsInTheMiddle(t, url, opts)
		}
	}
}

func stopsInTheMiddle(t *testing.T, url string, opts []fx.Option) {
	t.Helper()
	var events bus.Publisher
	var l *ledger
	app := fx.New(append(opts, fx.Populate(&events, &l))...)
	ctx, cancel := context.WithCancel(t.Context())
	if err := app.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // nothing runs on the context of the start
	if err := events.Publish(t.Context(), requested{"slow"}, placed{"o-1"}); err != nil {
		t.Fatal(err)
	}
	for entered := map[string]bool{}; len(entered) < 2; { // which may be tried again
		select {
		case id := <-l.entered:
			entered[id] = true
		case <-time.After(time.Minute):
			t.Fatal("nothing is handled")
		}
	}
	if err := app.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var n int
	if err := db.SQL().QueryRowContext(t.Context(), `select count(*) from ledger`).Scan(&n); err != nil || n != 2 {
		t.Errorf("%d of what was in hand was committed, %v; want 2", n, err)
	}
}
