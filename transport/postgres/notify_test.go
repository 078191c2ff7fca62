package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/postgres"
)

// TestNoticesAreHeard on each kind of handle.
func TestNoticesAreHeard(t *testing.T) {
	t.Parallel()
	for name, handle := range map[string]func(t *testing.T) *store.DB{
		"opened by URL": func(t *testing.T) *store.DB {
			db, err := store.Open(t.Context(), database(t))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			return db
		},
		"the caller's sql.DB": func(t *testing.T) *store.DB { return store.Use(connect(t, database(t)), store.Postgres) },
		"the caller's pool": func(t *testing.T) *store.DB {
			pool, err := pgxpool.New(t.Context(), withQuery(database(t), "pool_max_conns=2"))
			if err != nil {
				t.Fatal(err)
			}
			db := store.UsePool(pool)
			t.Cleanup(func() { _ = db.Close(); pool.Close() })
			return db
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, topic := handle(t), sqllogtest.Unique("notice")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			ready := make(chan struct{})
			end := make(chan error, 1)
			go func() {
				end <- postgres.Listen(ctx, db, func() { close(ready) }, func(name string) {
					if name == topic {
						cancel()
					}
				})
			}()
			select {
			case <-ready:
				publish(t, open(t, database(t)), topic, "1")
			case err := <-end:
				t.Fatal(err)
			}
			if err := <-end; !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
		})
	}
}
