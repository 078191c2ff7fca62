package database

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

// job is the message as River carries it.
type job struct {
	Payload json.RawMessage `json:"payload"`
}

func (job) Kind() string { return "orders.placed" }

// riverConsume works off a backlog of r.N jobs, with a thousand workers, and looks for more as often as River's own
// benchmark does.
func (s *server) riverConsume(ctx context.Context, r *bench.Run) error {
	cfg, err := pgxpool.ParseConfig(s.url)
	if err != nil {
		return err
	}
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return err
	}
	if err := s.exec(ctx, "TRUNCATE river_job"); err != nil {
		return err
	}
	var worked atomic.Int64
	all := make(chan struct{})
	workers := river.NewWorkers()
	river.AddWorker(workers, river.WorkFunc(func(context.Context, *river.Job[job]) error {
		if int(worked.Add(1)) == r.N {
			close(all)
		}
		return nil
	}))
	client, err := river.NewClient(driver, &river.Config{
		Queues: map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: 1000}}, Workers: workers,
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	for i := 0; i < r.N; i += atOnce {
		jobs := make([]river.InsertManyParams, min(atOnce, r.N-i))
		for j := range jobs {
			jobs[j].Args = job{Payload: json.RawMessage(payload)}
		}
		if _, err := client.InsertManyFast(ctx, jobs); err != nil {
			return err
		}
	}
	if err := s.exec(ctx, "VACUUM ANALYZE river_job"); err != nil {
		return err
	}
	r.Start()
	if err := client.Start(ctx); err != nil {
		return err
	}
	select {
	case <-all:
		r.Stop(r.N)
	case <-ctx.Done():
		err = ctx.Err()
	}
	return errors.Join(err, client.Stop(context.WithoutCancel(ctx)))
}
