package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// publishTwice publishes messages with the same id.
func publishTwice(t testing.TB, tr transport.Transport, id string) {
	t.Helper()
	msg := transport.Message{ID: id, Name: "orders.placed", Payload: []byte(`{"order_id":"` + id + `"}`)}
	if err := tr.Publish(t.Context(), "orders", []transport.Message{msg, msg}); err != nil {
		t.Fatal(err)
	}
}

func handled(b *bus.Bus, group string) func() bool {
	return func() bool { return b.Stats()[group].Handled == 2 }
}

// TestHandleOnce: two deliveries, one effect; the event that the handler publishes is there once, too, with its cause.
func TestHandleOnce(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		tr := f.transport()
		for name, cfg := range map[string]outbox.Config{"direct": {Transport: tr}, "outbox": {}} {
			in := inProcess(t)
			box := outbox.New(f.db, cfg)
			b := startBus(t, in, func(b *bus.Bus) {
				outbox.Handle(b, name, box, func(ctx context.Context, tx *outbox.Tx, e placed) error {
					if _, err := tx.ExecContext(ctx, "INSERT INTO business (id) VALUES ('"+name+"')"); err != nil {
						return err
					}
					return tx.Publish(ctx, paid{e.OrderID})
				})
			})
			publishTwice(t, in, "m1")
			eventually(t, "two deliveries", handled(b, name))
			if n := f.count("SELECT COUNT(*) FROM business WHERE id = ?", name); n != 1 {
				t.Errorf("%s: %d effects, want 1", name, n)
			}
			table := map[string]string{"direct": "payments", "outbox": outbox.DefaultName}[name]
			if n := f.count("SELECT COUNT(*) FROM watermill_" + table); n != 1 {
				t.Errorf("%s: %d events, want 1", name, n)
			}
			if f.dialect == store.SQLite {
				if n := f.count(`SELECT COUNT(*) FROM watermill_` + table + ` WHERE metadata LIKE '%"postbus_causation_id":"m1"%'`); n != 1 {
					t.Errorf("%s: the event does not tell its cause", name)
				}
			}
		}
	})
}

// TestHandleConcurrentDeliveries: the second waits for the first, and is not acknowledged before it has committed; if the
// first fails, the second handles.
func TestHandleConcurrentDeliveries(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		in := inProcess(t)
		box := outbox.New(f.db, outbox.Config{})
		entered, release := make(chan struct{}, 2), make(chan error)
		b := startBus(t, in, func(b *bus.Bus) {
			outbox.Handle(b, "g", box, func(ctx context.Context, tx *outbox.Tx, e placed) error {
				entered <- struct{}{}
				if err := <-release; err != nil {
					return err
				}
				_, err := tx.ExecContext(ctx, "INSERT INTO business (id) VALUES ('"+e.OrderID+"')")
				return err
			})
		})
		publishTwice(t, in, "m1")
		<-entered
		time.Sleep(50 * time.Millisecond) // let the other one come as far as it gets
		if n := b.Stats()["g"].Handled; n != 0 || len(entered) > 0 {
			t.Errorf("%d handled and %d more entered while the first has not committed", n, len(entered))
		}
		release <- errors.New("the first fails")
		<-entered // the second, or the first again
		release <- nil
		eventually(t, "both handled", handled(b, "g"))
		if n := f.count("SELECT COUNT(*) FROM business"); n != 1 {
			t.Errorf("%d effects, want 1", n)
		}
	})
}

// TestHandleSwallowedError: what a failed statement leaves is not committed, also if the handler does not return its
// error; within a savepoint it is.
func TestHandleSwallowedError(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		f.exec("INSERT INTO business (id) VALUES ('taken')")
		box := f.box(outbox.Config{})
		const fails = "INSERT INTO business (id) VALUES ('taken')"
		good := func(tx *outbox.Tx, id string) {
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO business (id) VALUES ('"+id+"')"); err != nil {
				t.Error(err)
			}
		}
		for name, fail := range map[string]func(tx *outbox.Tx){
			"exec":  func(tx *outbox.Tx) { _, _ = tx.ExecContext(t.Context(), fails) },
			"row":   func(tx *outbox.Tx) { _ = tx.QueryRowContext(t.Context(), "SELECT nothing").Scan() },
			"query": func(tx *outbox.Tx) { _, _ = tx.QueryContext(t.Context(), "SELECT nothing") },
			"publish": func(tx *outbox.Tx) {
				ctx, cancel := context.WithCancel(t.Context())
				cancel()
				_, _ = tx.ExecContext(ctx, "SELECT 1")
			},
		} {
			err := box.Tx(t.Context(), func(tx *outbox.Tx) error {
				good(tx, "half "+name)
				fail(tx)
				return nil
			})
			if err == nil {
				t.Errorf("%s: the error was swallowed", name)
			}
		}
		err := box.Tx(t.Context(), func(tx *outbox.Tx) error {
			good(tx, "before")
			if err := tx.Savepoint(t.Context(), func() error { good(tx, "undone 1"); return errors.New("no") }); err == nil {
				t.Error("the error of the function is lost")
			}
			if err := tx.Savepoint(t.Context(), func() error { good(tx, "undone 2"); _, _ = tx.ExecContext(t.Context(), fails); return nil }); err == nil {
				t.Error("the error of the statement is lost")
			}
			if err := tx.Savepoint(t.Context(), func() error { good(tx, "within"); return nil }); err != nil {
				t.Error(err)
			}
			var n int
			return tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM business").Scan(&n)
		})
		if err != nil {
			t.Error(err)
		}
		if n := f.count("SELECT COUNT(*) FROM business"); n != 3 {
			t.Errorf("%d rows, want taken, before and within", n)
		}
	})
}

// TestHandleAgainAfterAConflict: a deadlock, or a lock that SQLite does not get, costs no delivery.
func TestHandleAgainAfterAConflict(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		if f.dialect == store.SQLite {
			f.url += "&busy_timeout=2s" // of which the handler has several
			f.db = f.open()
		}
		f.exec("INSERT INTO business (id, note) VALUES ('a', ''), ('b', '')")
		in := inProcess(t)
		box := f.box(outbox.Config{})
		tx := f.begin()
		lock := func(id string) error {
			_, err := tx.ExecContext(t.Context(), "UPDATE business SET note = 'x' WHERE id = '"+id+"'")
			return err
		}
		if err := lock("a"); err != nil {
			t.Fatal(err)
		}
		var entries atomic.Int64
		has := make(chan struct{}, 100)
		b := startBus(t, in, func(b *bus.Bus) {
			outbox.Handle(b, "g", box, func(ctx context.Context, tx *outbox.Tx, e placed) error {
				entries.Add(1)
				for _, id := range []string{"b", "a"} {
					if _, err := tx.ExecContext(ctx, "UPDATE business SET note = '"+e.OrderID+"' WHERE id = '"+id+"'"); err != nil {
						return fmt.Errorf("hidden: %v", err)
					}
					has <- struct{}{}
				}
				return nil
			})
		})
		publish := func(id string) {
			if err := in.Publish(t.Context(), "orders", []transport.Message{{ID: id, Name: "orders.placed", Payload: []byte(`{"order_id":"` + id + `"}`)}}); err != nil {
				t.Fatal(err)
			}
		}
		publish("m1")
		if f.dialect == store.SQLite {
			time.Sleep(2500 * time.Millisecond) // it has no deadlock: somebody else writes
			_ = tx.Commit()
		} else {
			<-has
			// Whoever the database chooses: the handler runs again, or has its way.
			err := lock("b")
			_ = tx.Rollback()
			if err != nil && !store.IsConflict(err) {
				t.Fatal(err)
			}
			t.Logf("the other transaction: %v", err)
		}
		eventually(t, "the message handled", func() bool { return b.Stats()["g"].Handled == 1 })
		if b.Stats()["g"].Failed > 0 {
			t.Error("the conflict cost a delivery")
		}
		if n := f.count("SELECT COUNT(*) FROM business WHERE note = 'm1'"); n != 2 {
			t.Errorf("%d rows have the note, want 2", n)
		}
	})
}

// TestHandleHiddenConflict: a serialization failure that the handler does not return has it run again, within the delivery.
func TestHandleHiddenConflict(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Postgres)
	box := f.box(outbox.Config{})
	in := inProcess(t)
	var entries atomic.Int64
	b := startBus(t, in, func(b *bus.Bus) {
		outbox.Handle(b, "g", box, func(ctx context.Context, tx *outbox.Tx, e placed) error {
			if entries.Add(1) < 3 {
				_, _ = tx.ExecContext(ctx, "DO $$ BEGIN RAISE EXCEPTION 'x' USING ERRCODE = '40001'; END $$")
				return nil
			}
			_, err := tx.ExecContext(ctx, "INSERT INTO business (id) VALUES ($1)", e.OrderID)
			return err
		})
	})
	if err := b.Publish(t.Context(), placed{"a", 1}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the message handled", func() bool { return b.Stats()["g"].Handled == 1 })
	if n := f.count("SELECT COUNT(*) FROM business"); n != 1 || entries.Load() != 3 || b.Stats()["g"].Failed > 0 {
		t.Errorf("%d rows after %d runs, %+v; want 1 after 3, and no failure", n, entries.Load(), b.Stats()["g"])
	}
}

// TestHandleSerialization: PostgreSQL's serialization failures are conflicts, too.
func TestHandleSerialization(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Postgres)
	f.url += "&options=-c%20default_transaction_isolation%3Dserializable"
	f.db = f.open()
	box := f.box(outbox.Config{})
	f.exec("INSERT INTO business (id, note) VALUES ('n', '0')")
	const each = 20
	done := make(chan error)
	for range 4 {
		go func() {
			var err error
			for range each {
				for err = box.Tx(t.Context(), increment(t.Context())); store.IsConflict(err); {
					err = box.Tx(t.Context(), increment(t.Context()))
				}
			}
			done <- err
		}()
	}
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := f.count("SELECT note::int FROM business"); n != 4*each {
		t.Errorf("counted to %d, want %d", n, 4*each)
	}
}

func increment(ctx context.Context) func(tx *outbox.Tx) error {
	return func(tx *outbox.Tx) error {
		var n int
		if err := tx.QueryRowContext(ctx, "SELECT note::int FROM business").Scan(&n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, "UPDATE business SET note = $1", fmt.Sprint(n+1))
		return err
	}
}

// TestInboxIsSwept: what is older than the retention goes, in batches, and what is younger stays.
func TestInboxIsSwept(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{InboxRetention: time.Hour})
		var rows []string
		for i := range 3500 {
			rows = append(rows, fmt.Sprintf("('g', 'old %d', %d)", i, time.Now().Add(-2*time.Hour).UnixMilli()))
		}
		f.exec("INSERT INTO postbus_inbox (grp, id, at_ms) VALUES " + strings.Join(rows, ","))
		in := inProcess(t)
		startBus(t, in, func(b *bus.Bus) {
			outbox.Handle(b, "g", box, func(context.Context, *outbox.Tx, placed) error { return nil })
		})
		publishTwice(t, in, "new")
		eventually(t, "the old rows gone", func() bool { return f.count("SELECT COUNT(*) FROM postbus_inbox") == 1 })
	})
}

// TestHandleLongIDs: foreign publishers choose any id.
func TestHandleLongIDs(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		in := inProcess(t)
		var j journal
		box := f.box(outbox.Config{})
		b := startBus(t, in, func(b *bus.Bus) {
			outbox.Handle(b, "g", box, func(ctx context.Context, tx *outbox.Tx, e placed) error {
				d, _ := bus.DeliveryFrom(ctx)
				j.add("%s", d.Message().ID[999:])
				return nil
			})
		})
		for _, end := range []string{"a", "b", "a", "A"} {
			m := transport.Message{ID: strings.Repeat("x", 999) + end, Name: "orders.placed", Key: "k", Payload: []byte(`{}`)}
			if err := in.Publish(t.Context(), "orders", []transport.Message{m}); err != nil {
				t.Fatal(err)
			}
		}
		eventually(t, "all handled", func() bool { return b.Stats()["g"].Handled == 4 })
		j.want(t, "a", "b", "A")
	})
}

// TestHandleWiring: a mistake names the place where Handle was called.
func TestHandleWiring(t *testing.T) {
	t.Parallel()
	b, err := bus.New(bus.Config{Transport: memory.New(memory.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	outbox.Handle[placed](b, "g", nil, nil)
	err = b.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "handle_test.go:") {
		t.Errorf("got %v", err)
	}
}
