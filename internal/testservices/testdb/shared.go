package testdb

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/store"
)

const (
	// sharedPrefix begins the names of shared databases; the time at which one was made follows, in ns since 1970.
	sharedPrefix = "sqllog_"
	// sharedAge is from when on a shared database is one that an earlier run has left: tests of other packages, which run at
	// the same time, are not so old.
	sharedAge = 2 * time.Hour
)

// Shared is a database for all tests of a package. Its zero value is ready to use, concurrently.
type Shared struct {
	mu  sync.Mutex
	url string
}

// URL returns the database on the server of PostgreSQL or MySQL that server names; the first call makes it. It outlives
// the tests; those that runs of hours ago left go.
func (s *Shared) URL(t testing.TB, server func(testing.TB) string) string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.url == "" {
		s.url = newShared(t, server(t))
	}
	return s.url
}

func newShared(t testing.TB, server string) string {
	t.Helper()
	admin, made := create(t, server, fmt.Sprint(sharedPrefix, time.Now().UnixNano()))
	defer admin.Close()
	for _, name := range databases(t, admin) {
		if expired(name, time.Now()) {
			_, _ = admin.SQL().ExecContext(t.Context(), "drop database if exists "+name) // unless another run does
		}
	}
	return made
}

// expired reports whether name is of a shared database that nobody uses any more.
func expired(name string, now time.Time) bool {
	rest, shared := strings.CutPrefix(name, sharedPrefix)
	var made int64
	if n, err := fmt.Sscanf(rest, "%d", &made); !shared || n != 1 || err != nil || rest != fmt.Sprint(made) {
		return false
	}
	return now.Sub(time.Unix(0, made)) > sharedAge
}

// databases returns the names of those of a server.
func databases(t testing.TB, admin *store.DB) (names []string) {
	t.Helper()
	q := "select schema_name from information_schema.schemata"
	if admin.Dialect() == store.Postgres {
		q = "select datname from pg_database"
	}
	rows, err := admin.SQL().QueryContext(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		names = append(names, name)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return names
}
