package postgres_test

import (
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/postgres"
)

// TestWatermillAccepts: all transports share eight connections.
func TestWatermillAccepts(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), withQuery(database(t), "pool_max_conns=8"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	sqllogtest.Accept(t, func(t testing.TB) transport.Transport {
		tr, err := postgres.New(t.Context(), db, postgres.Config{PayloadBytes: true})
		if err != nil {
			t.Fatal(err)
		}
		return tr
	})
}
