package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test for what must happen.
const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

// onEach runs a test on a database of its own of each dialect.
func onEach(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Parallel()
	for _, d := range []store.Dialect{store.Postgres, store.MySQL, store.SQLite} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			test(t, newFixture(t, d))
		})
	}
}

// fixture is a database.
type fixture struct {
	t   testing.TB
	url string
	db  *store.DB
}

func newFixture(t testing.TB, d store.Dialect) *fixture {
	t.Helper()
	f := &fixture{t: t}
	switch d {
	case store.Postgres:
		f.url = testdb.New(t, testservices.Postgres(t))
	case store.MySQL:
		f.url = testdb.New(t, testservices.MySQL(t))
	default:
		f.url = "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
	}
	f.db = f.open()
	return f
}

// open returns one more handle of the database, as another process would have.
func (f *fixture) open() *store.DB {
	f.t.Helper()
	db, err := store.Open(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (f *fixture) store(cfg quarantine.Config) *quarantine.Store { return newStore(f.t, f.db, cfg) }

func newStore(t testing.TB, db *store.DB, cfg quarantine.Config) *quarantine.Store {
	t.Helper()
	if cfg.Logger == nil {
		cfg.Logger = quiet
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = patience
	}
	s := quarantine.New(db, cfg)
	if err := s.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// wire is a transport that keeps what is published.
type wire struct {
	transport.Transport
	sent chan sent
	fail func(topic string, msgs []transport.Message) error // nil: never
}

type sent struct {
	topic string
	transport.Message
}

func newWire(t testing.TB) *wire {
	m := memory.New(memory.Config{})
	t.Cleanup(func() { _ = m.Close() })
	return &wire{Transport: m, sent: make(chan sent, 100_000)}
}

func (w *wire) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if w.fail != nil {
		if err := w.fail(topic, msgs); err != nil {
			return err
		}
	}
	for _, m := range msgs {
		w.sent <- sent{topic, m}
	}
	return nil
}

// all returns what was published since the last call.
func (w *wire) all() (list []sent) {
	for {
		select {
		case m := <-w.sent:
			list = append(list, m)
		default:
			return list
		}
	}
}

// ids are those of messages, in order.
func ids(list []sent) (ids []string) {
	for _, m := range list {
		ids = append(ids, m.ID)
	}
	return ids
}

var errBroken = errors.New("the bank is closed")

// message is one with every field.
func message(id string) *transport.Message {
	return &transport.Message{
		ID: id, Name: "orders.placed", Version: 2, Key: "k-" + id, Time: time.Unix(1_700_000_000, 123_456_789).UTC(),
		CorrelationID: "cor", CausationID: "cau", ContentType: "application/json",
		Metadata: map[string]string{"traceparent": "00-1-2-01", "postbus_own": "x"}, Payload: []byte(`{"order_id":"` + id + `"}`),
	}
}

func delivery(id string) *bus.Delivery { return bus.NewDelivery(message(id), "orders", "billing", 3) }

func put(t testing.TB, s *quarantine.Store, d *bus.Delivery, cause error) {
	t.Helper()
	if err := s.Put(t.Context(), d, cause); err != nil {
		t.Fatal(err)
	}
}

func list(t testing.TB, s *quarantine.Store, f quarantine.Filter) []quarantine.Entry {
	t.Helper()
	entries, next, err := s.List(t.Context(), f, quarantine.Page{Limit: 10_000})
	if err != nil || next != "" {
		t.Fatal(next, err)
	}
	return entries
}

func one(t testing.TB, s *quarantine.Store, f quarantine.Filter) quarantine.Entry {
	t.Helper()
	entries := list(t, s, f)
	if len(entries) != 1 {
		t.Fatalf("there are %d entries, want 1: %+v", len(entries), entries)
	}
	return entries[0]
}

func count(t testing.TB, s *quarantine.Store, f quarantine.Filter) int {
	t.Helper()
	n, err := s.Count(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// check holds the counts by fingerprint to the entries.
func check(t testing.TB, s *quarantine.Store) {
	t.Helper()
	want := map[string]int{}
	for _, e := range list(t, s, quarantine.Filter{}) {
		want[e.Fingerprint]++
	}
	kinds, err := s.Fingerprints(t.Context(), quarantine.Filter{}, 1000)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, k := range kinds {
		got[k.Fingerprint] = k.Count
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("the counts by fingerprint are %v, those of the entries %v", got, want)
	}
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
