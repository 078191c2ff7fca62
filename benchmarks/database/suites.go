package database

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	wsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/store"
	_ "github.com/postbus/postbus/transport/mysql" // the schemes
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/sqlite"
)

const (
	backlog20k, backlog400k, backlog1m = "backlog20k", "backlog400k", "backlog1m"
	// first is how long a peer works on a backlog of which it would need minutes for all.
	first   = 10 * time.Second
	forever = time.Hour
)

// backlogs are how many messages wait in a topic, which is filled for the first case that needs it.
var backlogs = map[string]int{backlog20k: 20_000, backlog400k: 400_000, backlog1m: 1_000_000}

var pg, my, lite server

func pgAdapters(batch int) (wsql.SchemaAdapter, wsql.OffsetsAdapter) {
	return wsql.DefaultPostgreSQLSchema{SubscribeBatchSize: batch}, wsql.DefaultPostgreSQLOffsetsAdapter{}
}

func myAdapters(batch int) (wsql.SchemaAdapter, wsql.OffsetsAdapter) {
	return wsql.DefaultMySQLSchema{SubscribeBatchSize: batch}, wsql.DefaultMySQLOffsetsAdapter{}
}

// Postgres is the suite postgres.
var Postgres = bench.Suite{
	Name:  "postgres",
	About: "the log in PostgreSQL",
	Open:  func(ctx context.Context) (func() error, error) { return pg.open(ctx, "POSTBUS_TEST_POSTGRES_URL") },
	Cases: []bench.Case{
		{Name: "publish-16", Ours: pg.oursPublish16, Peers: []bench.Peer{
			{Name: "watermill-sql", Run: pg.theirsPublish16(pgAdapters), Goal: 4},
			{Name: "pgx", Run: pg.pgxInsert(publishers, 1)},
		}},
		{Name: "publish-1000", Ours: pg.oursPublish1000, N: 20, Peers: []bench.Peer{
			{Name: "watermill-sql", Run: pg.theirsPublish1000(pgAdapters), Goal: 1.3},
			{Name: "pgx", Run: pg.pgxInsert(atOnce, atOnce)},
		}},
		{Name: "consume-20k", N: 20_000, Ours: pg.oursConsume(backlog20k), Peers: []bench.Peer{
			{Name: "watermill-sql-100", Run: pg.theirsConsume(backlog20k, pgAdapters, 100, forever), Goal: 6},
			{Name: "watermill-sql-1000", Run: pg.theirsConsume(backlog20k, pgAdapters, 1000, forever), Goal: 1.5},
			{Name: "river", Run: pg.riverConsume, Goal: 4},
		}},
		{Name: "consume-400k", N: 400_000, Rounds: 5, Ours: pg.oursConsume(backlog400k), Peers: []bench.Peer{
			{Name: "watermill-sql-1000", Run: pg.theirsConsume(backlog400k, pgAdapters, 1000, first), Goal: 12},
		}},
		{Name: "consume-1m", N: 20_000, Ours: pg.oursConsume(backlog1m), Peers: []bench.Peer{
			{Name: "ours-at-20k", Run: pg.oursConsume(backlog20k), Goal: 0.8},
		}},
		{Name: "latency-median", N: 40, Unit: "ms", Ours: pg.oursLatency(0.5), AtMost: 5},
		{Name: "latency-p99", N: 40, Unit: "ms", Ours: pg.oursLatency(0.99), AtMost: 25},
		{Name: "latency-vs", N: 10, Unit: "ms", Ours: pg.oursLatency(0.5), Peers: []bench.Peer{{Name: "watermill-sql", Run: pg.theirsLatency(pgAdapters, 0.5)}}},
	},
}

func (s *server) exec(ctx context.Context, q string) error {
	_, err := s.db.ExecContext(ctx, q)
	return err
}

// MySQL is the suite mysql.
var MySQL = bench.Suite{
	Name:  "mysql",
	About: "the log in MySQL or MariaDB",
	Open:  func(ctx context.Context) (func() error, error) { return my.open(ctx, "POSTBUS_TEST_MYSQL_URL") },
	Cases: []bench.Case{
		{Name: "publish-16", Ours: my.oursPublish16, Peers: []bench.Peer{{Name: "watermill-sql", Run: my.theirsPublish16(myAdapters)}}},
		{Name: "consume-20k", N: 20_000, Rounds: 5, Ours: my.oursConsume(backlog20k), Peers: []bench.Peer{
			{Name: "watermill-sql-100", Run: my.theirsConsume(backlog20k, myAdapters, 100, first), Goal: 20},
		}},
	},
}

// SQLite is the suite sqlite: a file, in WAL mode, with synchronous=FULL.
var SQLite = bench.Suite{
	Name:  "sqlite",
	About: "the log in an SQLite file",
	Open: func(ctx context.Context) (func() error, error) {
		dir, err := os.MkdirTemp("", "postbus-bench")
		if err != nil {
			return nil, err
		}
		lite.url = "sqlite:" + filepath.Join(dir, "bench.db")
		db, err := store.Open(ctx, lite.url)
		if err != nil {
			return nil, err
		}
		lite.db, lite.filled = db.SQL(), map[string]bool{}
		return func() error { return errors.Join(db.Close(), os.RemoveAll(dir)) }, nil
	},
	Cases: []bench.Case{
		{Name: "publish-16", Ours: lite.oursPublish16, Peers: []bench.Peer{{Name: "insert-per-commit", Run: lite.insertPerCommit, Goal: 5}}},
		{Name: "consume-20k", N: 20_000, Ours: lite.oursConsume(backlog20k)},
	},
}

// insertPerCommit inserts each message in a transaction of its own, the callers in line, as SQLite has it.
func (s *server) insertPerCommit(ctx context.Context, r *bench.Run) error {
	topic := unique("p")
	if err := s.exec(ctx, "CREATE TABLE watermill_"+topic+` ("offset" INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT, created_at TEXT, payload BLOB, metadata JSON)`); err != nil {
		return err
	}
	line := make(chan struct{}, 1)
	r.Start()
	err := each(r.N, func(i int) error {
		m := messages(i, 1)[0]
		line <- struct{}{}
		defer func() { <-line }()
		_, err := s.db.ExecContext(ctx, "INSERT INTO watermill_"+topic+" (uuid, created_at, payload, metadata) VALUES (?, ?, ?, ?)",
			m.ID, time.Now().UTC().String(), m.Payload, fmt.Sprintf(`{"name":%q}`, m.Name))
		return err
	})
	r.Stop(r.N)
	return errors.Join(err, s.count(ctx, topic, r.N))
}
