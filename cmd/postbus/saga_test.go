package main

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/sqlite"
)

type (
	orderPlaced   struct{ ID string }
	orderReturned struct{ ID string }
	orderState    struct{ ID string }
)

func (orderPlaced) EventName() string    { return "orders.placed" }
func (orderReturned) EventName() string  { return "orders.returned" }
func (e orderReturned) EventKey() string { return e.ID }

// checkout cannot be undone: its instances are stuck on the way back.
var checkout = saga.Definition[orderState]{
	Name:  "checkout",
	Start: saga.StartOn(func(e orderPlaced) (string, orderState) { return e.ID, orderState(e) }),
	Steps: []saga.Step[orderState]{
		{Name: "ship", Do: func(context.Context, *saga.Run[orderState]) error { return nil },
			Undo:  func(context.Context, *saga.Run[orderState]) error { return bus.Permanent(errors.New("sold\x1b[2J")) },
			Await: saga.Replies(saga.Continue(func(*orderState, orderReturned) error { return nil })), MayWaitForever: true},
	},
}

// runSagas runs a program with sagas until the test ends, and returns the URL of its database.
func runSagas(t *testing.T, sagas ...saga.Saga) string {
	t.Helper()
	url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db") + "?synchronous=off"
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	tr, err := sqlite.New(t.Context(), db, sqlite.Config{Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	b, err := bus.New(bus.Config{Transport: tr, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	box := outbox.New(db, outbox.Config{Transport: tr, Logger: quiet})
	o, err := saga.New(b, box, saga.Config{Sagas: sagas, PollInterval: 20 * time.Millisecond, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Start(t.Context()), b.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := errors.Join(b.Stop(ctx), o.Stop(ctx), tr.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	for _, key := range []string{"a", "b", "c"} {
		if err := b.Publish(t.Context(), orderPlaced{key}); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
			i, err := o.Get(t.Context(), "checkout", key)
			if err == nil && i.Step == "ship" {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%+v, %v", i, err)
			}
		}
	}
	return url
}

func TestSagas(t *testing.T) {
	t.Parallel()
	p := program{t: t, environ: []string{"POSTBUS_STORE=" + runSagas(t, checkout)}}
	status := func(key string) saga.Status {
		return objects[sagaLine](t, p.ok("saga", "show", "checkout", key, "--json"))[0].Status
	}
	until := func(key string, want saga.Status) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); status(key) != want; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%q is %s, not %s", key, status(key), want)
			}
		}
	}
	if lines := strings.Split(p.ok("saga", "list"), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[0], "SAGA") || !strings.Contains(lines[3], "running") {
		t.Errorf("%q", lines)
	}
	if list := objects[sagaLine](t, p.ok("saga", "list", "--json", "--saga", "checkout", "--step", "ship", "--limit", "2")); len(list) != 2 || list[1].Key != "b" {
		t.Errorf("%+v", list)
	}
	if out := p.ok("saga", "list", "--json", "--older", "1h"); out != "" {
		t.Error(out)
	}
	p.ok("saga", "compensate", "checkout", "a")
	until("a", saga.Stuck)
	if list := objects[sagaLine](t, p.ok("saga", "list", "--json", "--status", "stuck", "--limit", "0")); len(list) != 1 || !strings.Contains(list[0].Error, "sold") {
		t.Errorf("%+v", list)
	}
	shown := p.ok("saga", "show", "checkout", "a")
	for _, want := range []string{"STATUS", "stuck", `{"ID":"a"}`, "started", "orders.placed", "aborted", "undo-failed", `sold\x1b[2J`} {
		if !strings.Contains(shown, want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	if line := objects[sagaLine](t, p.ok("saga", "show", "checkout", "a", "--json"))[0]; len(line.Journal) < 5 || string(line.State) != `{"ID":"a"}` {
		t.Errorf("%+v", line)
	}
	p.ok("saga", "retry", "checkout", "a")
	until("a", saga.Stuck)
	p.ok("saga", "skip", "checkout", "a")
	until("a", saga.Compensated)
	if out := p.ok("saga", "cancel", "checkout", "b"); out != "checkout b is cancelled\n" {
		t.Errorf("%q", out)
	}
	p.fails(exitFailure, []string{"has ended"}, "saga", "retry", "checkout", "a")
	p.fails(exitFailure, []string{"not stuck"}, "saga", "retry", "checkout", "c")
	p.fails(exitFailure, []string{"no such instance"}, "saga", "cancel", "checkout", "nobody")
	p.fails(exitFailure, []string{"no such instance"}, "saga", "show", "checkout", strings.Repeat("x", 300))
	p.fails(exitUsage, []string{"--status"}, "saga", "list", "--status", "struck")
	p.fails(exitUsage, []string{"--wait"}, "saga", "skip", "checkout", "c", "--wait", "1h")
	p.fails(exitUsage, []string{"SAGA KEY"}, "saga", "skip", "checkout")
}

// TestSagaThatNobodyRuns: the command is withdrawn.
func TestSagaThatNobodyRuns(t *testing.T) {
	t.Parallel()
	url := runSagas(t, checkout)
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.SQL().ExecContext(t.Context(), "UPDATE postbus_saga SET version = 7"); err != nil {
		t.Fatal(err)
	}
	p := program{t: t, environ: []string{"POSTBUS_STORE=" + url}}
	p.fails(exitFailure, []string{"no program has carried it out", "withdrawn"}, "saga", "compensate", "checkout", "a", "--wait", "10s")
	var n int
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM postbus_saga_command").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d commands are left: %v", n, err)
	}
}

// TestSagasThatWereNeverThere: the database of a program without sagas is told from one in which all is well.
func TestSagasThatWereNeverThere(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") },
		"postgres": func(t *testing.T) string { return testdb.New(t, testservices.Postgres(t)) },
		"mysql":    func(t *testing.T) string { return testdb.New(t, testservices.MySQL(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := url(t)
			db, err := store.Open(t.Context(), at)
			if err == nil {
				_, err = db.SQL().ExecContext(t.Context(), "CREATE TABLE orders (id int)")
			}
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			p := program{t: t}
			for _, args := range [][]string{{"list"}, {"show", "checkout", "o-1"}, {"retry", "checkout", "o-1"}} {
				p.fails(exitFailure, []string{"no program with sagas has run on this database"}, append(append([]string{"saga"}, args...), "--store", at)...)
			}
		})
	}
}
