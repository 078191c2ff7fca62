package dedup_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/middleware/dedup"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test for what must happen.
const patience = time.Minute

var quiet = slog.New(slog.DiscardHandler)

// everywhere runs a test in memory, and in the store of each dialect; open returns another handle of it, nil in memory.
func everywhere(t *testing.T, test func(t *testing.T, cfg dedup.Config)) {
	t.Parallel()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, dedup.Config{Logger: quiet})
	})
	inStores(t, test)
}

func inStores(t *testing.T, test func(t *testing.T, cfg dedup.Config)) {
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite": func(t *testing.T) string {
			return "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
		},
		"postgres": func(t *testing.T) string { return testdb.New(t, testservices.Postgres(t)) },
		"mysql":    func(t *testing.T) string { return testdb.New(t, testservices.MySQL(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := store.Open(t.Context(), url(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			test(t, dedup.Config{Store: db, Logger: quiet})
		})
	}
}

func exec(t *testing.T, db *store.DB, query string) {
	t.Helper()
	if _, err := db.SQL().ExecContext(t.Context(), query); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, db *store.DB, where string) (n int) {
	t.Helper()
	if err := db.SQL().QueryRowContext(t.Context(), "SELECT COUNT(*) FROM postbus_dedup WHERE "+where).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// deliver hands a message to a chain, as a bus would.
func deliver(ctx context.Context, chain bus.Handler, group, id string) error {
	return chain(ctx, bus.NewDelivery(&transport.Message{ID: id, Name: "orders.placed"}, "orders", group, 1))
}

// must fails if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually polls until what is true, and fails after patience.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}
