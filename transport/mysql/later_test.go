package mysql_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/mysql"
)

// TestManyLaterAreCheap counts the rows that the server read, on the only connection.
func TestManyLaterAreCheap(t *testing.T) {
	t.Parallel()
	const n = 40_000
	db, err := store.Open(t.Context(), database(t)+"?pool_max_conns=1")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	read := func() (n int) {
		t.Helper()
		if err := db.SQL().QueryRow("SELECT SUM(variable_value) FROM information_schema.session_status WHERE variable_name LIKE 'Handler_read%'").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before, after := 0, 0
	sqllogtest.ManyLater(t, db, func() transport.Transport {
		tr, err := mysql.New(t.Context(), db, mysql.Config{})
		if err != nil {
			t.Fatal(err)
		}
		return closing{tr, func() { after = read() }}
	}, n, func() { before = read() })
	if got := after - before; got <= 0 || got > n/4 { // whoever reads those that wait reads n/2 at a time; the rest is looks, for as long as it takes
		t.Errorf("%d rows were read, while %d waited", got, n)
	}
}

// closing is a transport that does something before it closes; that breaks off what is asked, and the connection goes with it.
type closing struct {
	*mysql.Transport
	first func()
}

func (c closing) Close() error { c.first(); return c.Transport.Close() }
