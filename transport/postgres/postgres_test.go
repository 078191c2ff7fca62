package postgres_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	_ "github.com/postbus/postbus/transport/postgres"
)

func TestMain(m *testing.M) {
	sqllogtest.Child()
	goleak.VerifyTestMain(m)
}

var shared testdb.Shared

// database returns the URL of the database of this package's tests.
func database(t testing.TB) string { t.Helper(); return shared.URL(t, testservices.Postgres) }

func withQuery(rawURL, query string) string { return rawURL + "&" + query }

func TestLog(t *testing.T) {
	t.Parallel()
	sqllogtest.Suite{
		URL:  func(t testing.TB) string { return withQuery(database(t), "pool_max_conns=4") },
		Rows: sqllogtest.CountRows(`"`),
	}.Run(t)
}

func conformanceURL(t testing.TB) string {
	return withQuery(database(t), "payload=bytea&lease=3s&pool_max_conns=4")
}
