package outbox_test

import (
	"context"
	"database/sql"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/mysql"
	"github.com/postbus/postbus/transport/postgres"
	"github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of a test for what must happen.
const patience = time.Minute

var dialects = []store.Dialect{store.Postgres, store.MySQL, store.SQLite}

// onEach runs a test on a database of its own of each dialect.
func onEach(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Parallel()
	for _, d := range dialects {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			test(t, newFixture(t, d))
		})
	}
}

// fixture is a database with a table of the business, "rows".
type fixture struct {
	t       testing.TB
	dialect store.Dialect
	url     string
	db      *store.DB
}

func newFixture(t testing.TB, d store.Dialect) *fixture {
	t.Helper()
	f := &fixture{t: t, dialect: d}
	switch d {
	case store.Postgres:
		return newPostgres(t, testservices.Postgres(t))
	case store.MySQL:
		f.url = testdb.New(t, testservices.MySQL(t))
	default: // the machine stays up: what a killed process wrote is there also without synchronous
		f.url = "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
	}
	f.begun()
	return f
}

// newPostgres makes the fixture on a server.
func newPostgres(t testing.TB, server string) *fixture {
	t.Helper()
	f := &fixture{t: t, dialect: store.Postgres, url: testdb.New(t, server)}
	f.begun()
	return f
}

func (f *fixture) begun() {
	f.t.Helper()
	f.db = f.open()
	f.exec(`CREATE TABLE business (id varchar(100) PRIMARY KEY, note varchar(100))`)
}

// open returns one more handle of the database.
func (f *fixture) open() *store.DB {
	f.t.Helper()
	db, err := store.Open(f.t.Context(), f.url)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = db.Close() })
	return db
}

func (f *fixture) exec(q string, args ...any) {
	f.t.Helper()
	if _, err := f.db.SQL().ExecContext(f.t.Context(), f.bind(q), args...); err != nil {
		f.t.Fatal(err)
	}
}

// bind writes "?" as the database wants arguments.
func (f *fixture) bind(q string) string {
	for n := 1; f.dialect == store.Postgres && strings.Contains(q, "?"); n++ {
		q = strings.Replace(q, "?", fmt.Sprintf("$%d", n), 1)
	}
	return q
}

func (f *fixture) count(q string, args ...any) int {
	f.t.Helper()
	var n int
	if err := f.db.SQL().QueryRowContext(f.t.Context(), f.bind(q), args...).Scan(&n); err != nil {
		f.t.Fatal(err)
	}
	return n
}

func (f *fixture) begin() *sql.Tx {
	f.t.Helper()
	tx, err := f.db.SQL().BeginTx(f.t.Context(), nil)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

// transport returns the transport in the database, on the fixture's handle.
func (f *fixture) transport() transport.Transport {
	f.t.Helper()
	var tr transport.Transport
	var err error
	switch f.dialect {
	case store.Postgres:
		tr, err = postgres.New(f.t.Context(), f.db, postgres.Config{PollInterval: 50 * time.Millisecond})
	case store.MySQL:
		tr, err = mysql.New(f.t.Context(), f.db, mysql.Config{PollInterval: 50 * time.Millisecond})
	default:
		tr, err = sqlite.New(f.t.Context(), f.db, sqlite.Config{PollInterval: 50 * time.Millisecond})
	}
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			f.t.Error(err)
		}
	})
	return tr
}

// box returns a Box that is prepared.
func (f *fixture) box(cfg outbox.Config) *outbox.Box {
	f.t.Helper()
	box := outbox.New(f.db, cfg)
	if err := box.Prepare(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return box
}

// inProcess returns a transport of this process.
func inProcess(t testing.TB) *memory.Transport {
	tr := memory.New(memory.Config{})
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// startBus starts a bus on tr after wire, and stops it at the end.
func startBus(t testing.TB, tr transport.Transport, wire func(b *bus.Bus)) *bus.Bus {
	t.Helper()
	b, err := bus.New(bus.Config{Transport: tr, Groups: nil})
	if err != nil {
		t.Fatal(err)
	}
	wire(b)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := b.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return b
}

// placed is the event of the tests.
type placed struct {
	OrderID string `json:"order_id"`
	N       int    `json:"n"`
}

func (placed) EventName() string  { return "orders.placed" }
func (e placed) EventKey() string { return e.OrderID }

type paid struct {
	OrderID string `json:"order_id"`
}

func (paid) EventName() string { return "payments.paid" }

// journal records what handlers saw.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, fmt.Sprintf(format, args...))
}

func (j *journal) all() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]string(nil), j.entries...)
}

// eventually polls until what is true, and fails after patience.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	end, pause := time.Now().Add(limit), 2*time.Millisecond
	for ; !ok(); pause = min(2*pause, 50*time.Millisecond) { // what is waited for needs the machine, too
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", limit, what)
		}
		time.Sleep(pause)
	}
}

// want waits until the journal has n entries, and compares them.
func (j *journal) want(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d entries in the journal", len(want)), func() bool { return len(j.all()) >= len(want) })
	if got := j.all(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
