package mysql_test

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	_ "github.com/postbus/postbus/transport/mysql"
)

func TestMain(m *testing.M) {
	sqllogtest.Child()
	goleak.VerifyTestMain(m)
}

var shared testdb.Shared

// database returns the URL of the database of this package's tests.
func database(t testing.TB) string { t.Helper(); return shared.URL(t, testservices.MySQL) }

func TestLog(t *testing.T) {
	t.Parallel()
	sqllogtest.Suite{
		URL:   func(t testing.TB) string { return database(t) + "?timeout=1m&pool_max_conns=4" },
		Clock: time.Second,
		Rows:  sqllogtest.CountRows("`"),
	}.Run(t)
}

func conformanceURL(t testing.TB) string {
	return database(t) + "?payload=bytea&timeout=1m&pool_max_conns=4"
}
