package saga_test

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
)

func TestMain(m *testing.M) {
	child()
	goleak.VerifyTestMain(m)
}

// patience bounds every wait of a test for what must happen.
const patience = 2 * time.Minute

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

// fixture is a database with a table of the business, "effects".
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
		f.url = testdb.New(t, testservices.Postgres(t))
	case store.MySQL:
		f.url = testdb.New(t, testservices.MySQL(t))
	default: // the machine stays up: what a killed process wrote is there also without synchronous
		f.url = "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
	}
	f.db = f.open()
	n := map[store.Dialect]string{
		store.Postgres: "bigserial", store.MySQL: "bigint AUTO_INCREMENT PRIMARY KEY", store.SQLite: "INTEGER PRIMARY KEY",
	}[d]
	f.exec(`CREATE TABLE effects (n ` + n + `, inst varchar(100), what varchar(100))`)
	return f
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
	if _, err := f.db.SQL().ExecContext(f.t.Context(), f.dialect.Bind(q), args...); err != nil {
		f.t.Fatal(err)
	}
}

// effects lists what was done for an instance, in its order.
func (f *fixture) effects(key string) (all []string) {
	f.t.Helper()
	rows, err := f.db.SQL().QueryContext(f.t.Context(), f.dialect.Bind("SELECT what FROM effects WHERE inst = ? ORDER BY n"), key)
	if err != nil {
		f.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var what string
		if err := rows.Scan(&what); err != nil {
			f.t.Fatal(err)
		}
		all = append(all, what)
	}
	if err := rows.Err(); err != nil {
		f.t.Fatal(err)
	}
	return all
}

// effect returns a function that writes what it does within its transaction.
func (f *fixture) effect(what string) func(context.Context, *saga.Run[order]) error {
	return func(ctx context.Context, r *saga.Run[order]) error {
		_, err := r.Tx().ExecContext(ctx, f.dialect.Bind("INSERT INTO effects (inst, what) VALUES (?, ?)"), r.Key(), what)
		r.State.Done = append(r.State.Done, what)
		return err
	}
}

// The events and the state of the tests.
type (
	order struct {
		ID   string
		Note string
		Done []string
	}
	placed   struct{ ID string }
	ask      struct{ ID string }
	captured struct{ ID string }
	declined struct{ ID string }
)

func (placed) EventName() string    { return "orders.placed" }
func (e placed) EventKey() string   { return e.ID }
func (ask) EventName() string       { return "payments.ask" }
func (e ask) EventKey() string      { return e.ID }
func (captured) EventName() string  { return "payments.captured" }
func (e captured) EventKey() string { return e.ID }
func (declined) EventName() string  { return "payments.declined" }
func (e declined) EventKey() string { return e.ID }

var begin = saga.StartOn(func(e placed) (string, order) { return e.ID, order{ID: e.ID} })

func request(ctx context.Context, r *saga.Run[order]) error { return r.Publish(ctx, ask{r.Key()}) }

var payment = saga.Replies(
	saga.Continue(func(o *order, e captured) error { o.Note = "paid"; return nil }),
	saga.Abort(func(o *order, e declined) error { o.Note = "declined"; return nil }))
