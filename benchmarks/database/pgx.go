package database

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

// pgxInsert is the least that can be done for n rows a transaction: one statement after the other on one connection, with
// rows that are ready, and nobody who waits for one of them alone. N counts messages, or calls of a thousand.
func (s *server) pgxInsert(n, perN int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		c, err := pgx.Connect(ctx, s.url)
		if err != nil {
			return err
		}
		defer c.Close(context.WithoutCancel(ctx))
		topic := unique("p")
		p, err := s.theirPublisher(pgAdapters)
		if err != nil {
			return err
		}
		if err := p.Publish(topic, theirMessages(0, 1)...); err != nil {
			return err
		}
		ids, metadata, payloads := make([]string, n), make([]string, n), make([]string, n)
		for i, m := range messages(0, n) {
			ids[i], metadata[i], payloads[i] = m.ID, `{"name":"`+m.Name+`"}`, string(m.Payload)
		}
		total := r.N * perN / n * n
		r.Start()
		for range total / n {
			_, err := c.Exec(ctx, "INSERT INTO watermill_"+topic+` (uuid, metadata, payload, transaction_id)
				SELECT unnest($1::varchar[]), unnest($2::json[]), unnest($3::json[]), pg_current_xact_id()`, ids, metadata, payloads)
			if err != nil {
				return err
			}
		}
		r.Stop(total)
		return errors.Join(p.Close(), s.count(ctx, topic, total+1))
	}
}
