package outboxfx_test

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/store/storefx"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{ OrderID string }

func (placed) EventName() string { return "orders.placed" }

type paid struct{ OrderID string }

func (paid) EventName() string { return "payments.paid" }

type ticked struct{ At time.Time }

func (ticked) EventName() string { return "clock.ticked" }

// billing writes a row for each order; its table comes with it.
type billing struct {
	paid   chan string
	ticked chan time.Time
}

func newBilling(lc fx.Lifecycle, db *store.DB) *billing {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		_, err := db.SQL().ExecContext(ctx, `create table charges (id text)`)
		return err
	}))
	return &billing{make(chan string, 10), make(chan time.Time, 10)}
}

func (b *billing) charge(ctx context.Context, tx *outbox.Tx, e placed) error {
	if _, err := tx.ExecContext(ctx, `insert into charges values ('`+e.OrderID+`')`); err != nil {
		return err
	}
	return tx.Publish(ctx, paid(e))
}

func (b *billing) note(_ context.Context, e paid) error   { b.paid <- e.OrderID; return nil }
func (b *billing) tick(_ context.Context, e ticked) error { b.ticked <- e.At; return nil }

// options are in the wrong-looking order: what needs comes before what is needed.
func options(dir string) []fx.Option {
	url := "sqlite:" + filepath.Join(dir, "shop.db")
	return optionsOn(url, url)
}

func optionsOn(transport, store string) []fx.Option {
	return []fx.Option{
		outboxfx.Handle("billing", (*billing).charge),
		busfx.Handle("ledger", (*billing).note),
		busfx.Handle("clock", (*billing).tick),
		busfx.Module,
		outboxfx.Module,
		fx.Provide(newBilling),
		storefx.Module,
		configfx.Load("", []string{"POSTBUS_TRANSPORT=" + transport, "POSTBUS_STORE=" + store}),
		fx.Supply(slog.New(slog.DiscardHandler)),
		fx.NopLogger,
	}
}

func TestOneDatabaseAndEachMessageOnce(t *testing.T) {
	t.Parallel()
	var events bus.Publisher
	var service *billing
	var db *store.DB
	app := fx.New(append(options(t.TempDir()), fx.Populate(&events, &service, &db), outboxfx.Recurring(outbox.Recurring{
		Name: "tick", Cron: "@every 1s", Event: func(at time.Time) bus.Event { return ticked{at} },
	}))...)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"first", "first", "second"} {
		if err := events.Publish(t.Context(), bus.WithID(id, placed{OrderID: id})); err != nil {
			t.Fatal(err)
		}
	}
	got := []string{<-service.paid, <-service.paid} // without a key, in any order
	if slices.Sort(got); !slices.Equal(got, []string{"first", "second"}) {
		t.Errorf("paid %q, want first and second", got)
	}
	<-service.ticked
	var charges int
	if err := db.SQL().QueryRowContext(t.Context(), `select count(*) from charges`).Scan(&charges); err != nil || charges != 2 {
		t.Errorf("%d charges, %v; want 2", charges, err)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if len(service.paid) > 0 {
		t.Errorf("paid once more: %q", <-service.paid)
	}
	if err := db.SQL().Ping(); err == nil || !strings.Contains(err.Error(), "closed") || err == sql.ErrConnDone {
		t.Errorf("after the stop the database says %v", err)
	}
}

func TestMistakesAreReported(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(options(t.TempDir())...); err != nil {
		t.Error(err)
	}
	err := fx.New(append(options(t.TempDir()), outboxfx.Handle[*billing, placed]("billing", nil))...).Err()
	if err == nil || !strings.Contains(err.Error(), "outboxfx_test.go:") || !strings.Contains(err.Error(), "the function is nil") {
		t.Errorf("a handler that is nil: %v", err)
	}
	err = fx.New(append(apart(t), fx.Supply(outbox.ForwarderConfig{Batch: -1}))...).Err()
	if err == nil || !strings.Contains(err.Error(), "Batch -1") {
		t.Errorf("a forwarder that is wrong: %v", err)
	}
	err = fx.New(append(options(t.TempDir()), outboxfx.Recurring(outbox.Recurring{Name: "tick"}))...).Err()
	if err == nil || !strings.Contains(err.Error(), `"tick" has no Event`) {
		t.Errorf("a schedule that is wrong: %v", err)
	}
}

func apart(t *testing.T) []fx.Option {
	return optionsOn("memory:", "sqlite:"+filepath.Join(t.TempDir(), "shop.db"))
}

// TestForwarded: where transport and store are apart, what handlers publish is forwarded, also what they publish while the
// bus drains.
func TestForwarded(t *testing.T) {
	t.Parallel()
	var events bus.Publisher
	var service *billing
	var tr transport.Transport
	var forwarder *outbox.Forwarder
	app := fx.New(append(apart(t), fx.Populate(&events, &service, &tr, &forwarder))...)
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	other, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "payments", Group: "auditor"})
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"first", "second"} {
		if err := events.Publish(t.Context(), placed{OrderID: id}); err != nil {
			t.Fatal(err)
		}
		if got := <-service.paid; got != id {
			t.Errorf("paid %q, want %q", got, id)
		}
	}
	got, err := other.Receive(t.Context(), 2)
	if err != nil || len(got) != 2 {
		t.Errorf("the transport has %d messages, %v; want 2", len(got), err)
	}
	if b, err := forwarder.Backlog(t.Context()); err != nil || !b.Active {
		t.Errorf("backlog %+v, %v", b, err)
	}
	if err := app.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestForwardedElsewhere: nobody here forwards if it is said so.
func TestForwardedElsewhere(t *testing.T) {
	t.Parallel()
	var forwarder *outbox.Forwarder
	app := fx.New(append(apart(t), outboxfx.ForwardedElsewhere, fx.Populate(&forwarder))...)
	if err := errors.Join(app.Start(t.Context()), app.Stop(t.Context())); err != nil {
		t.Error(err)
	}
	if forwarder != nil {
		t.Error("there is a forwarder")
	}
}
