package outbox_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestInDirect: on the bus's own database the events are delivered as if Bus.Publish had published them, if and only if
// the transaction commits.
func TestInDirect(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		tr := f.transport()
		box := f.box(outbox.Config{Transport: tr})
		var j journal
		startBus(t, tr, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				d, _ := bus.DeliveryFrom(ctx)
				j.add("%s %d %s", e.OrderID, e.N, d.Message().CorrelationID)
				return nil
			})
		})
		ctx := bus.WithCorrelationID(t.Context(), "c1")
		tx := f.begin()
		if err := box.In(tx).Publish(ctx, placed{"rolled back", 1}); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		tx = f.begin()
		if err := box.In(tx).Publish(ctx, placed{"a", 1}, placed{"a", 2}); err != nil {
			t.Fatal(err)
		}
		if err := box.In(tx).Publish(ctx, placed{"a", 3}); err != nil {
			t.Fatal(err)
		}
		if got := j.all(); len(got) > 0 {
			t.Errorf("seen before the commit: %q", got)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		j.want(t, "a 1 c1", "a 2 c1", "a 3 c1")
	})
}

// TestInOutbox: the outbox has the envelope, the topic and the rest.
func TestInOutbox(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		tx := f.begin()
		err := box.In(tx).Publish(t.Context(),
			bus.WithID("m1", bus.WithMetadata(map[string]string{"k": "v", "postbus_outbox_topic": "x"}, placed{"a", 1})), paid{"b"})
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		sub, err := f.transport().Subscribe(t.Context(), transport.SubscribeConfig{Topic: outbox.DefaultName, Group: "g"})
		if err != nil {
			t.Fatal(err)
		}
		var got []transport.Delivery
		for len(got) < 2 {
			ds, err := sub.Receive(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, ds...)
		}
		m, topic := outbox.Unwrap(got[0].Message)
		if m.ID != "m1" || m.Key != "a" || m.Name != "orders.placed" || topic != "orders" || len(m.Metadata) != 2 ||
			m.Metadata["k"] != "v" || m.Metadata["postbus_outbox_topic"] != "x" || string(m.Payload) != `{"order_id":"a","n":1}` {
			t.Errorf("got %+v on %q", m, topic)
		}
		m, topic = outbox.Unwrap(got[1].Message)
		if m.ID == "" || m.CorrelationID != m.ID || m.Name != "payments.paid" || topic != "payments" || m.Metadata != nil {
			t.Errorf("got %+v on %q", m, topic)
		}
	})
}

// counting counts statements of a transaction.
type counting struct {
	*sql.Tx
	inserts int
}

func (c *counting) ExecContext(ctx context.Context, q string, args ...any) (sql.Result, error) {
	if strings.HasPrefix(q, "INSERT") {
		c.inserts++
	}
	return c.Tx.ExecContext(ctx, q, args...)
}

func TestABatchIsOneStatement(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		tx := &counting{Tx: f.begin()}
		var events []bus.Event
		for i := range 50 {
			events = append(events, placed{"a", i}, paid{fmt.Sprint(i)})
		}
		if err := box.In(tx).Publish(t.Context(), events...); err != nil {
			t.Fatal(err)
		}
		if tx.inserts != 1 {
			t.Errorf("%d statements for a batch of %d events, want 1", tx.inserts, len(events))
		}
	})
}

func TestInPgxTx(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Postgres)
	box := f.box(outbox.Config{})
	for _, commit := range []bool{false, true} {
		tx, err := f.db.Pool().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := box.In(tx).Publish(t.Context(), placed{"a", 1}, placed{"a", 2}, paid{"b"}); err != nil {
			t.Fatal(err)
		}
		end, want := tx.Rollback, 0
		if commit {
			end, want = tx.Commit, 3
		}
		if err := end(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := f.count("SELECT COUNT(*) FROM watermill_" + outbox.DefaultName); n != want {
			t.Errorf("commit %v: %d rows, want %d", commit, n, want)
		}
		if err := box.In(tx).Publish(t.Context(), placed{"a", 1}); !errors.Is(err, pgx.ErrTxClosed) {
			t.Errorf("after the end: %v", err)
		}
	}
}

// unencodable cannot be encoded.
type unencodable struct{ C chan int }

func (unencodable) EventName() string { return "orders.bad" }

func TestInBadInput(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		tx := f.begin()
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := box.In(tx).Publish(ended, placed{"a", 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("a context that ended: %v", err)
		}
		if err := box.In(tx).Publish(t.Context(), placed{"a", 1}, unencodable{}); err == nil {
			t.Error("an event that cannot be encoded was published")
		}
		if err := box.In(tx).Publish(t.Context(), placed{"a\x00", 1}); !errors.Is(err, bus.ErrInvalid) || !bus.IsPermanent(err) {
			t.Errorf("a key with a NUL: %v", err)
		}
		if err := box.In(tx).Publish(t.Context()); err != nil {
			t.Errorf("nothing: %v", err)
		}
		// The transaction can go on.
		if _, err := tx.ExecContext(t.Context(), "INSERT INTO business (id) VALUES ('x')"); err != nil {
			t.Error(err)
		}
		if err := box.In(tx).Publish(t.Context(), placed{"a", 2}); err != nil {
			t.Error(err)
		}
		if err := tx.Commit(); err != nil {
			t.Error(err)
		}
		if n := f.count("SELECT COUNT(*) FROM watermill_" + outbox.DefaultName); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
		if err := box.In(tx).Publish(t.Context(), placed{"a", 1}); !errors.Is(err, sql.ErrTxDone) {
			t.Errorf("after the commit: %v", err)
		}
		for _, none := range []any{nil, f.db.SQL(), (*sql.Tx)(nil), "tx", (*outbox.Tx)(nil)} {
			if err := box.In(none).Publish(t.Context(), placed{"a", 1}); !errors.Is(err, bus.ErrInvalid) {
				t.Errorf("In(%T): %v", none, err)
			}
		}
	})
}

// TestInAnotherDatabase: whose transaction it is shows where the tables are missing, or SQL is another.
func TestInAnotherDatabase(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		for _, d := range dialects {
			other := newFixture(t, d)
			if err := box.In(other.begin()).Publish(t.Context(), placed{"a", 1}); err == nil || !strings.Contains(err.Error(), "must be one of the Box's "+f.dialect.String()) {
				t.Errorf("on %s: %v", d, err)
			}
		}
		if f.dialect != store.Postgres {
			var tx pgx.Tx = struct{ pgx.Tx }{}
			if err := box.In(tx).Publish(t.Context(), placed{"a", 1}); !errors.Is(err, bus.ErrInvalid) {
				t.Errorf("a pgx.Tx: %v", err)
			}
		}
	})
}

// TestInUnprepared: the first publication makes the tables; on SQLite, whose one writer the transaction is, it says so.
func TestInUnprepared(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := outbox.New(f.db, outbox.Config{})
		err := box.In(f.begin()).Publish(t.Context(), placed{"a", 1})
		if f.dialect == store.SQLite {
			if !errors.Is(err, outbox.ErrNotPrepared) {
				t.Errorf("got %v", err)
			}
		} else if err != nil {
			t.Error(err)
		}
	})
}

// TestInNewTopic: on SQLite, a topic that nobody has used is made within the transaction, and goes with it.
func TestInNewTopic(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		tr := f.transport()
		box := f.box(outbox.Config{Transport: tr})
		for _, commit := range []bool{false, true} {
			tx := f.begin()
			if _, err := tx.ExecContext(t.Context(), "INSERT INTO business (id) VALUES ('x')"); err != nil {
				t.Fatal(err)
			}
			if err := box.In(tx).Publish(t.Context(), placed{"a", 1}); err != nil {
				t.Fatal(err)
			}
			end := tx.Rollback
			if commit {
				end = tx.Commit
			}
			if err := end(); err != nil {
				t.Fatal(err)
			}
		}
		if n := f.count("SELECT COUNT(*) FROM watermill_orders"); n != 1 {
			t.Errorf("%d rows, want 1", n)
		}
	})
}

func TestConfig(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	for name, tc := range map[string]struct {
		box  *outbox.Box
		want string
	}{
		"no database": {outbox.New(nil, outbox.Config{}), "the database is missing"},
		"no SQL":      {outbox.New(f.db, outbox.Config{Transport: foreign{}}), "cannot publish within a transaction"},
		"no codec":    {outbox.New(f.db, outbox.Config{Publishing: []bus.PublishMiddleware{nil}}), "Publishing[0] is nil"},
		"no name":     {outbox.New(f.db, outbox.Config{Name: "\n"}), "Config.Name"},
	} {
		for call, err := range map[string]error{
			"Prepare": tc.box.Prepare(t.Context()),
			"Publish": tc.box.In(&sql.Tx{}).Publish(t.Context(), placed{}),
			"Tx":      tc.box.Tx(t.Context(), func(*outbox.Tx) error { return nil }),
		} {
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%s: %s: got %v, want %q", name, call, err, tc.want)
			}
		}
	}
}

// foreign is a transport without transactions.
type foreign struct{ transport.Transport }

// TestCancel: an event that waits can be taken back, at once or with a transaction; one that has come cannot.
func TestCancel(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		tr := f.transport()
		var j journal
		startBus(t, tr, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error { j.add("%s", e.OrderID); return nil })
		})
		for _, cfg := range []outbox.Config{{Transport: tr}, {}} {
			box := f.box(cfg)
			err := box.Tx(t.Context(), func(tx *outbox.Tx) error {
				return tx.Publish(t.Context(), bus.WithID("1", bus.After(time.Hour, placed{"1", 1})), bus.WithID("2", bus.After(time.Hour, placed{"2", 1})),
					bus.WithID(strings.Repeat("é", 50), bus.After(time.Hour, placed{"3", 1})), bus.WithID("4", placed{"now", 1}))
			})
			if err != nil {
				t.Fatal(err)
			}
			cancel := func(id string, want bool) {
				t.Helper()
				if got, err := box.Cancel(t.Context(), id); got != want || err != nil {
					t.Errorf("cancel %q: %v, %v, want %v", id, got, err, want)
				}
			}
			cancel("1", true)
			cancel("1", false)
			cancel("4", false)
			cancel(strings.Repeat("é", 50), true)
			tx := f.begin()
			if ok, err := box.In(tx).Cancel(t.Context(), "2"); !ok || err != nil {
				t.Errorf("in a transaction: %v, %v", ok, err)
			}
			if err := tx.Rollback(); err != nil {
				t.Fatal(err)
			}
			cancel("2", true)
		}
		j.want(t, "now")
	})
}

// TestTxRollsBack: after an error, and after a panic.
func TestTxRollsBack(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		broken := errors.New("broken")
		err := box.Tx(t.Context(), func(tx *outbox.Tx) error {
			if err := tx.Publish(t.Context(), placed{"a", 1}); err != nil {
				return err
			}
			return broken
		})
		if !errors.Is(err, broken) {
			t.Errorf("got %v", err)
		}
		func() {
			defer func() { _ = recover() }()
			_ = box.Tx(t.Context(), func(tx *outbox.Tx) error {
				if err := tx.Publish(t.Context(), placed{"a", 1}); err != nil {
					return err
				}
				panic("broken")
			})
		}()
		if n := f.count("SELECT COUNT(*) FROM watermill_" + outbox.DefaultName); n != 0 {
			t.Errorf("%d rows, want none", n)
		}
	})
}
