package postgres_test

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
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

// TestNoticesWakeGroups: what another handle publishes, in a transaction of its caller's or not, is received although no
// group polls.
func TestNoticesWakeGroups(t *testing.T) {
	t.Parallel()
	rawURL := database(t)
	for name, send := range map[string]func(t *testing.T, db *sql.DB, tr *postgres.Transport, topic string){
		"Publish": func(t *testing.T, _ *sql.DB, tr *postgres.Transport, topic string) { publish(t, tr, topic, "1") },
		"PublishTx": func(t *testing.T, db *sql.DB, tr *postgres.Transport, topic string) {
			tx, err := db.BeginTx(t.Context(), nil)
			if err == nil {
				err = tr.PublishTx(t.Context(), tx, topic, []transport.Message{{ID: "1", Payload: []byte("{}")}})
			}
			if err == nil {
				err = tx.Commit()
			}
			if err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := store.Open(t.Context(), rawURL)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = db.Close() })
			waiting, err := postgres.ByNotices(t.Context(), db)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = waiting.Close() })
			topic := sqllogtest.Unique("woken")
			s := subscribe(t, waiting, topic, "g")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			received := make(chan error, 1)
			go func() {
				_, err := s.Receive(ctx, 1)
				received <- err
			}()
			other, sender := open(t, rawURL).(*postgres.Transport), connect(t, rawURL)
			for {
				// A notice can come while an older transaction of another test holds the log back: the next one tells again.
				send(t, sender, other, topic)
				select {
				case err := <-received:
					if err != nil {
						t.Error("nothing was received: ", err)
					}
					return
				case <-time.After(100 * time.Millisecond):
				}
			}
		})
	}
}

// TestWhoOnlyPublishesDoesNotListen: neither the connection nor the server's signals are for nothing.
func TestWhoOnlyPublishesDoesNotListen(t *testing.T) {
	t.Parallel()
	name, topic := sqllogtest.Unique("listens"), sqllogtest.Unique("listens")
	tr, other := open(t, withQuery(database(t), "application_name="+name)), connect(t, database(t))
	listens := func() (is bool) {
		t.Helper()
		err := other.QueryRowContext(t.Context(), "SELECT count(*) > 0 FROM pg_stat_activity WHERE application_name = $1 AND query LIKE 'LISTEN%'", name).Scan(&is)
		if err != nil {
			t.Fatal(err)
		}
		return is
	}
	for range 100 {
		publish(t, tr, topic, "1")
	}
	if listens() {
		t.Error("it listens, and nobody has subscribed")
	}
	subscribe(t, tr, topic, "g")
	for start := time.Now(); !listens(); {
		if time.Since(start) > time.Minute {
			t.Fatal("it does not listen, and there is a subscription")
		}
	}
}
