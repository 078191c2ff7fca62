package mysql_test

import (
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/store"
	_ "github.com/postbus/postbus/transport/mysql"
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
		shared.url = newDatabase(t, testservices.MySQL(t))
	}
	return shared.url
}

func newDatabase(t testing.TB, server string) string {
	t.Helper()
	db, err := store.Open(t.Context(), server)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	exec := func(q string) {
		t.Helper()
		if _, err := db.SQL().ExecContext(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	// What runs of long ago left behind goes first.
	rows, err := db.SQL().QueryContext(t.Context(), "SELECT schema_name FROM information_schema.schemata WHERE schema_name LIKE 'sqllog\\_%'")
	if err != nil {
		t.Fatal(err)
	}
	var old []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			t.Fatal(err)
		}
		old = append(old, name)
	}
	_ = rows.Close()
	for _, name := range old {
		var nanos int64
		if _, err := fmt.Sscanf(strings.TrimPrefix(name, "sqllog_"), "%d", &nanos); err == nil && time.Since(time.Unix(0, nanos)) > 30*time.Minute {
			exec("DROP DATABASE IF EXISTS `" + name + "`")
		}
	}
	name := fmt.Sprintf("sqllog_%d", time.Now().UnixNano())
	exec("CREATE DATABASE " + name)
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/" + name
	return u.String()
}

func TestLog(t *testing.T) {
	t.Parallel()
	sqllogtest.Suite{
		URL:   func(t testing.TB) string { return database(t) + "?pool_max_conns=4" },
		Clock: time.Second,
		Rows:  sqllogtest.CountRows("`"),
	}.Run(t)
}

func conformanceURL(t testing.TB) string {
	return database(t) + "?payload=bytea&lease=1s&pool_max_conns=4"
}
