package postgres_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
)

// TestCloseWhileALeaseIsTaken: who closes between the lease and what it is for gives the lease back.
func TestCloseWhileALeaseIsTaken(t *testing.T) {
	t.Parallel()
	for _, query := range []string{"partitions=1", "partitions=3"} {
		t.Run(query, func(t *testing.T) {
			t.Parallel()
			rawURL, topic := withQuery(database(t), query+"&lease=1h"), sqllogtest.Unique("taken")
			tr := open(t, rawURL)
			if err := subscribe(t, tr, topic, "g").Close(); err != nil {
				t.Fatal(err)
			}
			db := connect(t, database(t))
			owned := func() (n int) {
				t.Helper()
				if err := db.QueryRow("SELECT count(*) FROM postbus_groups WHERE topic = $1 AND owner <> ''", topic).Scan(&n); err != nil {
					t.Fatal(err)
				}
				return n
			}
			lock, err := db.Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = lock.Rollback() }()
			if _, err := lock.Exec(`LOCK TABLE "watermill_offsets_` + topic + `" IN ACCESS EXCLUSIVE MODE`); err != nil {
				t.Fatal(err)
			}
			s := subscribe(t, tr, topic, "g")
			poll(t, "a lease is taken", func() bool { return owned() > 0 })
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if n := owned(); n > 0 {
				t.Errorf("%d leases are left", n)
			}
		})
	}
}
