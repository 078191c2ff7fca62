package postgres_test

import (
	"fmt"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	_ "github.com/postbus/postbus/transport/postgres"
)

func TestMain(m *testing.M) {
	sqllogtest.Child()
	goleak.VerifyTestMain(m)
}

var shared struct {
	sync.Mutex
	url string
}

// database returns the URL of a database of this package's tests.
func database(t testing.TB) string {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.url == "" {
		shared.url = newDatabase(t, testservices.Postgres(t))
	}
	return shared.url
}

func newDatabase(t testing.TB, server string) string {
	t.Helper()
	ctx := t.Context()
	c, err := pgx.Connect(ctx, server)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	// What earlier runs left behind goes first; a database in use stays.
	rows, _ := c.Query(ctx, `SELECT datname FROM pg_database d WHERE datname LIKE 'sqllog_%'
		AND NOT EXISTS (SELECT 1 FROM pg_stat_activity a WHERE a.datname = d.datname)`)
	old, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range old {
		_, _ = c.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{name}.Sanitize())
	}
	name := fmt.Sprintf("sqllog_%d", time.Now().UnixNano())
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func withQuery(rawURL, query string) string { return rawURL + "&" + query }

func TestLog(t *testing.T) {
	t.Parallel()
	sqllogtest.Suite{
		URL:  func(t testing.TB) string { return withQuery(database(t), "pool_max_conns=4") },
		Rows: sqllogtest.CountRows(`"`),
	}.Run(t)
}

func conformanceURL(t testing.TB) string {
	return withQuery(database(t), "payload=bytea&lease=1s&pool_max_conns=4")
}
