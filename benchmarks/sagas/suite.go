// Package sagas measures durable sagas.
package sagas

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/store"
)

const (
	// inParallel is how many sagas run at once: each of as many callers waits for the end of one before it starts the next.
	inParallel = 16
	// thatWait is that for sagas that wait for a reply most of their time.
	thatWait = 64
	// workers of each of our groups.
	workers = 32
	// connections each side has.
	connections = 48
	// waiting is how many instances wait on timers.
	waiting = 100_000
	// unfinished is how many instances a killed process has left.
	unfinished = 10_000
)

// server is the databases of the suite: one for each contender, all on one server.
type server struct {
	admin *store.DB
	urls  []*url.URL
	names []string
}

var (
	empty, full, restarts database // of ours
	theirs                dbosSide
)

// Suite is the suite saga.
var Suite = bench.Suite{
	Name:  "saga",
	About: "durable sagas on PostgreSQL, beside DBOS",
	Open:  open,
	Cases: []bench.Case{
		{Name: "local-steps", Unit: "sagas/s", Time: time.Second, Ours: empty.run(localSteps, inParallel), Peers: []bench.Peer{{Name: "dbos", Run: theirs.run(dbosLocal, inParallel), Goal: 2}}},
		{Name: "await-reply", Unit: "sagas/s", Time: time.Second, Ours: empty.run(awaitReply, thatWait), Peers: []bench.Peer{{Name: "dbos", Run: theirs.run(dbosAwait, thatWait), Goal: 2}}},
		{Name: "timers-100k", Unit: "sagas/s", Time: time.Second, Ours: full.run(awaitReply, thatWait), Peers: []bench.Peer{{Name: "ours-empty", Run: empty.run(awaitReply, thatWait), Goal: 0.85}}},
		{Name: "recovery-10k", Unit: "sagas/s", N: unfinished, Ours: restarts.recover, Peers: []bench.Peer{{Name: "ours-steady", Run: restarts.steady, Goal: 0.5}}},
	},
}

func open(ctx context.Context) (func() error, error) {
	s := &server{}
	base := os.Getenv("POSTBUS_TEST_POSTGRES_URL")
	if base == "" {
		return nil, errors.New("POSTBUS_TEST_POSTGRES_URL is not set: see scripts/services env")
	}
	var err error
	if s.admin, err = store.Open(ctx, base); err != nil {
		return nil, err
	}
	err = errors.Join(s.make(ctx, base, "empty", &empty.url), s.make(ctx, base, "full", &full.url), s.make(ctx, base, "restarts", &restarts.url),
		s.make(ctx, base, "dbos", &theirs.url))
	if err == nil {
		err = full.fill(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s.close, nil
}

// make makes a database.
func (s *server) make(ctx context.Context, base, name string, to *string) error {
	name = fmt.Sprintf("bench_%s_%d", name, time.Now().UnixNano())
	if _, err := s.admin.SQL().ExecContext(ctx, "CREATE DATABASE "+name); err != nil {
		return err
	}
	s.names = append(s.names, name)
	u, err := url.Parse(base)
	if err != nil {
		return err
	}
	u.Path = "/" + name
	*to = u.String()
	return nil
}

func (s *server) close() error {
	var errs []error
	for _, name := range s.names {
		_, err := s.admin.SQL().ExecContext(context.Background(), "DROP DATABASE "+name+" WITH (FORCE)")
		errs = append(errs, err)
	}
	return errors.Join(append(errs, s.admin.Close())...)
}

// pool opens a pool of connections.
func pool(ctx context.Context, url string) (*pgxpool.Pool, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	cfg.MaxConns = connections
	return pgxpool.NewWithConfig(ctx, cfg)
}

// each calls do for 0 to n-1, so many at once.
func each(n, atOnce int, do func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, atOnce)
	for range atOnce {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < int64(n); i = next.Add(1) - 1 {
				if err := do(int(i)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	return <-errs
}
