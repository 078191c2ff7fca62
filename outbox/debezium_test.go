package outbox_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestDebezium: the columns hold what the event router of Debezium expects there.
func TestDebezium(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.Postgres, store.MySQL} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, d)
			box := f.box(outbox.Config{Layout: outbox.Debezium})
			ctx := bus.WithCorrelationID(t.Context(), "c1")
			tx := &counting{Tx: f.begin()}
			if err := box.In(tx).Publish(ctx, bus.WithMetadata(map[string]string{"k": "v"}, order("a", 1)), bus.WithID("p", paid{"x"})); err != nil {
				t.Fatal(err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if tx.inserts != 1 {
				t.Errorf("%d statements, want 1", tx.inserts)
			}
			rows, err := f.db.SQL().QueryContext(t.Context(), "SELECT id, aggregatetype, aggregateid, type, payload, headers FROM postbus_debezium ORDER BY id")
			if err != nil {
				t.Fatal(err)
			}
			defer rows.Close()
			var got []string
			for rows.Next() {
				var id, topic, key, name string
				var payload, headers []byte
				if err := rows.Scan(&id, &topic, &key, &name, &payload, &headers); err != nil {
					t.Fatal(err)
				}
				var p, h map[string]any
				if err := errors.Join(json.Unmarshal(payload, &p), json.Unmarshal(headers, &h)); err != nil {
					t.Fatal(err)
				}
				got = append(got, fmt.Sprint(id, " ", topic, " ", key, " ", name, " ", p, " ", h["k"], " ", h["correlation_id"]))
			}
			want := "a1 orders a orders.placed map[n:1 order_id:a] v c1,p payments p payments.paid map[order_id:x] <nil> c1"
			if err := rows.Err(); err != nil || strings.Join(got, ",") != want {
				t.Errorf("%v: got\n%s, want\n%s", err, strings.Join(got, ","), want)
			}
		})
	}
}

// raw is an event whose JSON is its text.
type raw struct{ text string }

func (raw) EventName() string              { return "raw.made" }
func (r raw) MarshalJSON() ([]byte, error) { return []byte(r.text), nil }

// TestDebeziumRefuses: what has no place in the table is an error before the transaction is used.
func TestDebeziumRefuses(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Postgres)
	box := f.box(outbox.Config{Layout: outbox.Debezium})
	tx := f.begin()
	for want, e := range map[error]bus.Event{
		transport.ErrUnsupported: bus.After(time.Hour, placed{"a", 1}),
		transport.ErrInvalid:     raw{`"a\u0000b"`},
	} {
		if err := box.In(tx).Publish(t.Context(), e); !errors.Is(err, want) || !bus.IsPermanent(err) {
			t.Errorf("got %v, want a permanent %v", err, want)
		}
	}
	if err := box.In(tx).Publish(t.Context(), placed{"a", 1}); err != nil {
		t.Errorf("the transaction cannot go on: %v", err)
	}
	if found, err := box.In(tx).Cancel(t.Context(), "x"); found || err != nil {
		t.Errorf("cancel: %v, %v", found, err)
	}
	for want, cfg := range map[string]outbox.Config{
		"not into a table": {Layout: outbox.Debezium, Transport: f.transport()},
		`Name "mine"`:      {Layout: outbox.Debezium, Name: "mine"},
	} {
		if err := outbox.New(f.db, cfg).Prepare(t.Context()); !errors.Is(err, bus.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	lite := newFixture(t, store.SQLite)
	if err := outbox.New(lite.db, outbox.Config{Layout: outbox.Debezium}).Prepare(t.Context()); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("on SQLite: %v", err)
	}
	if _, err := outbox.NewForwarder(box, &target{}, outbox.ForwarderConfig{}); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("a Forwarder that does not tail: %v", err)
	}
}

// testTailDebezium: our tail reads the table, too, and removes what it has forwarded.
func testTailDebezium(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet, Layout: outbox.Debezium})
	f.commit(t, box, order("early", 1))
	var r target
	fw := f.tailing(t, box, &r, outbox.ForwarderConfig{})
	r.want(t, "orders early1")
	f.commit(t, box, order("a", 1), bus.WithMetadata(map[string]string{"k": "v"}, order("a", 2)))
	r.want(t, "orders early1", "orders a1", "orders a2")
	if m := r.msgs[2]; m.Key != "a" || m.Name != "orders.placed" || string(m.Payload) != `{"n": 2, "order_id": "a"}` ||
		len(m.Metadata) != 1 || m.Metadata["k"] != "v" || m.CorrelationID != "a2" || m.Time.IsZero() {
		t.Errorf("got %+v", m)
	}
	eventually(t, "an empty outbox", func() bool { return f.count("SELECT COUNT(*) FROM postbus_debezium") == 0 })
	if b, err := fw.Backlog(t.Context()); err != nil || !b.Active || b.Messages != 0 {
		t.Errorf("backlog %+v, %v", b, err)
	}
}
