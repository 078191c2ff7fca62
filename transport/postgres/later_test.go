package postgres_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestManyLaterAreCheap counts the entries and rows that the server read.
func TestManyLaterAreCheap(t *testing.T) {
	t.Parallel()
	const n = 100_000
	rawURL := testdb.New(t, testservices.Postgres(t))
	admin := connect(t, rawURL)
	read := func() (n int) {
		t.Helper()
		if err := admin.QueryRow(`SELECT (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'postbus_later') +
			(SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE relname = 'postbus_later')`).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	alone := func() {
		poll(t, "other connections have ended", func() bool {
			var others int
			_ = admin.QueryRow("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'").Scan(&others)
			return others == 0
		})
	}
	db, err := store.Open(t.Context(), rawURL)
	if err != nil {
		t.Fatal(err)
	}
	sqllogtest.ManyLater(t, db, func() transport.Transport {
		tr, err := transport.Open(t.Context(), rawURL)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	}, n, func() {
		if err := db.Close(); err != nil { // a connection tells what it read at its end, at the latest
			t.Fatal(err)
		}
		alone()
		if _, err := admin.Exec("ANALYZE postbus_later"); err != nil {
			t.Fatal(err)
		}
		if _, err := admin.Exec("SELECT pg_stat_reset()"); err != nil {
			t.Fatal(err)
		}
	})
	alone()
	if got := read(); got == 0 || got > n/20 {
		t.Errorf("%d rows were read, while %d waited", got, n)
	}
}
