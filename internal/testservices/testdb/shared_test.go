package testdb

import (
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/store"
)

// TestSharedLeavesThoseOfOthers: a package's tests that begin do not take away the database of another package's.
func TestSharedLeavesThoseOfOthers(t *testing.T) {
	t.Parallel()
	for name, server := range map[string]func(testing.TB) string{"postgres": testservices.Postgres, "mysql": testservices.MySQL} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var first, second Shared
			theirs := first.URL(t, server)
			if ours := second.URL(t, server); ours == theirs || ours != second.URL(t, server) {
				t.Errorf("got %s, and %s", ours, theirs)
			}
			db, err := store.Open(t.Context(), theirs)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			if err := db.SQL().PingContext(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestExpired(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for name, want := range map[string]bool{
		fmt.Sprint("sqllog_", now.UnixNano()):                             false,
		fmt.Sprint("sqllog_", now.Add(-time.Hour).UnixNano()):             false,
		fmt.Sprint("sqllog_", now.Add(-3*time.Hour).UnixNano()):           true,
		fmt.Sprint("sqllog_", now.Add(-3*time.Hour).UnixNano(), "; drop"): false,
		"sqllog_": false, "sqllog_1x": false, "postgres": false, "1": false,
	} {
		if got := expired(name, now); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
