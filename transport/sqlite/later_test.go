package sqlite_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	modernc "modernc.org/sqlite"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/sqlite"
)

// TestManyLaterAreCheap asks how SQLite does each query of the table in which delayed messages wait.
func TestManyLaterAreCheap(t *testing.T) {
	t.Parallel()
	r := &recorder{dsn: "file:" + filepath.Join(t.TempDir(), "x.db") + "?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"}
	db := sql.OpenDB(r)
	defer db.Close()
	handle := store.Use(db, store.SQLite)
	sqllogtest.ManyLater(t, handle, func() transport.Transport {
		tr, err := sqlite.New(t.Context(), handle, sqlite.Config{Partitions: 2})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}, 2000, func() {})
	asked := 0
	for query, args := range r.all() {
		if !strings.Contains(query, "postbus_later") || strings.HasPrefix(query, "INSERT") || strings.HasPrefix(query, "CREATE") {
			continue
		}
		asked++
		for _, step := range plan(t, db, query, args) {
			if strings.HasPrefix(step, "SCAN postbus_later") || strings.HasSuffix(step, "FOR ORDER BY") {
				t.Errorf("%s: %s", query, step)
			}
		}
	}
	if asked < 6 {
		t.Errorf("only %d queries were seen", asked)
	}
}

func plan(t *testing.T, db *sql.DB, query string, args []any) (steps []string) {
	t.Helper()
	rows, err := db.Query("EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var step string
		if err := rows.Scan(&id, &parent, &unused, &step); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, step)
	}
	return steps
}

// recorder connects, and remembers what is asked.
type recorder struct {
	dsn string
	mu  sync.Mutex
	got map[string][]any
}

func (r *recorder) Driver() driver.Driver { return &modernc.Driver{} }

func (r *recorder) Connect(context.Context) (driver.Conn, error) {
	c, err := r.Driver().Open(r.dsn)
	return &recorded{c, r}, err
}

func (r *recorder) saw(query string, named []driver.NamedValue) {
	args := make([]any, len(named))
	for i, a := range named {
		args[i] = a.Value
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.got == nil {
		r.got = map[string][]any{}
	}
	r.got[query] = args
}

func (r *recorder) all() map[string][]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	got := r.got
	r.got = nil
	return got
}

type recorded struct {
	driver.Conn
	r *recorder
}

func (c *recorded) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.r.saw(query, args)
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, query, args)
}

func (c *recorded) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.r.saw(query, args)
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, query, args)
}

func (c *recorded) BeginTx(ctx context.Context, o driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, o)
}
