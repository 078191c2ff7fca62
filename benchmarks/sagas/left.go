package sagas

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/saga"
)

// clone multiplies the instance "pattern" of a saga, and its journal. The copies are of the next version, so that the
// program that has made the pattern leaves them.
func (p *program) clone(ctx context.Context, n int, due string) error {
	_, err := p.db.SQL().ExecContext(ctx, fmt.Sprintf(`INSERT INTO postbus_saga
		(saga, inst, id, version, status, step, rev, claims, state, progress, error, origin, due_ms, started_ms, ended_ms)
		SELECT saga, 'left' || g, md5(g::text), version + 1, status, step, rev, claims, state, progress, error, origin, %s, started_ms, ended_ms
		FROM postbus_saga, generate_series(1, $2) g WHERE saga = $1 AND inst = 'pattern'`, due), p.name, n)
	if err != nil {
		return err
	}
	_, err = p.db.SQL().ExecContext(ctx, `INSERT INTO postbus_saga_journal (saga, inst, rev, at_ms, entries)
		SELECT saga, 'left' || g, rev, at_ms, entries FROM postbus_saga_journal, generate_series(1, $2) g WHERE saga = $1 AND inst = 'pattern'`,
		p.name, n)
	return err
}

// pattern starts one instance of a saga, copies it as it is in the step "charge", and then closes copied.
func (d *database) pattern(ctx context.Context, name string, def saga.Definition[order], n int, due string, copied chan struct{}) (err error) {
	p, err := d.start(ctx, name, def)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	defer close(copied)
	if err := p.bus.Publish(ctx, placed{"pattern"}); err != nil {
		return err
	}
	for {
		i, err := p.saga.Get(ctx, name, "pattern")
		if err == nil && i.Step == "charge" {
			break
		}
		if err != nil && !errors.Is(err, saga.ErrNotFound) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
	if err := p.clone(ctx, n, due); err != nil {
		return err
	}
	_, err = p.db.SQL().ExecContext(ctx, "ANALYZE")
	return err
}

// fill leaves instances that wait on timers.
func (d *database) fill(ctx context.Context) error {
	wait := define(step{Name: "charge", Timeout: 24 * time.Hour, Await: saga.Replies(saga.Continue(func(*order, captured) error { return nil }))})
	return d.pattern(ctx, "left", wait("left"), waiting, "due_ms + g", make(chan struct{}))
}

// recover measures from the start of a program, which finds as many instances as a killed one has left between a step and
// the next, until the last has ended.
func (d *database) recover(ctx context.Context, r *bench.Run) (err error) {
	name := "s" + strconv.FormatInt(serial.Add(1), 10)
	killed := make(chan struct{}) // until then the row is as it is while the step runs
	during := define(step{Name: "reserve", Do: reserve, Local: true}, step{Name: "charge", Retry: saga.Retry{MinBackoff: time.Hour, MaxBackoff: time.Hour},
		Do: func(context.Context, *run) error { <-killed; return errors.New("killed") }})
	if err := d.pattern(ctx, name, during(name), r.N, "1", killed); err != nil {
		return err
	}
	r.Start()
	def := beyond(name)
	def.Version = 2
	p, err := d.startWanting(ctx, name, def, int64(r.N))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	select {
	case <-p.all:
	case <-ctx.Done():
		return fmt.Errorf("%w: %d instances have ended", ctx.Err(), p.count.Load())
	}
	r.Stop(r.N)
	return p.verify(ctx, r.N)
}

// steady measures the same saga from its start to its end, without a kill.
func (d *database) steady(ctx context.Context, r *bench.Run) error {
	return d.run(beyond, inParallel)(ctx, r)
}
