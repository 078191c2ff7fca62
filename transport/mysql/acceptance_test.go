package mysql_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/mysql"
)

// TestWatermillAccepts: all transports share eight connections.
func TestWatermillAccepts(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), database(t)+"?timeout=1m&pool_max_conns=8")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	sqllogtest.Accept(t, func(t testing.TB) transport.Transport {
		tr, err := mysql.New(t.Context(), db, mysql.Config{PayloadBytes: true})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	})
}
