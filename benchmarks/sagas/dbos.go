package sagas

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"time"

	"github.com/dbos-inc/dbos-transact-golang/dbos"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

// dbosSide is DBOS, in a database of its own.
type dbosSide struct{ url string }

type workflow = dbos.Workflow[string, order]

// dbosLocal has three steps.
func dbosLocal(ctx dbos.Context, id string) (o order, err error) {
	o.ID = id
	for _, field := range []*bool{&o.Reserved, &o.Paid, &o.Shipped} {
		if *field, err = dbos.RunAsStep(ctx, func(context.Context) (bool, error) { return true, nil }); err != nil {
			return o, err
		}
	}
	return o, nil
}

// asked hands what a workflow asks to who answers.
var asked = make(chan string, 10_000)

// dbosAwait asks in a step, and waits for the answer, for an hour at most.
func dbosAwait(ctx dbos.Context, id string) (o order, err error) {
	o.ID = id
	workflow, err := dbos.GetWorkflowID(ctx)
	if err != nil {
		return o, err
	}
	_, err = dbos.RunAsStep(ctx, func(context.Context) (bool, error) { asked <- workflow; return true, nil })
	if err != nil {
		return o, err
	}
	o.Paid, err = dbos.Recv[bool](ctx, "captured", time.Hour)
	return o, err
}

// run measures a workflow: callers, each of whom runs one and waits for its result.
func (d *dbosSide) run(w workflow, callers int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		conns, err := pool(ctx, d.url)
		if err != nil {
			return err
		}
		defer conns.Close()
		c, err := dbos.NewContext(ctx, dbos.Config{AppName: "bench", SystemDBPool: conns, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, dbos.Shutdown(c, 10*time.Second)) }()
		dbos.RegisterWorkflow(c, w)
		if err := dbos.Launch(c); err != nil {
			return err
		}
		done := make(chan struct{})
		answers := make(chan error, inParallel)
		for range inParallel {
			go func() { answers <- answer(c, done) }()
		}
		prefix := "w" + strconv.FormatInt(serial.Add(1), 10) + "-"
		one := func(key string) error {
			h, err := dbos.RunWorkflow(c, w, key, dbos.WithWorkflowID(prefix+key))
			if err != nil {
				return err
			}
			o, err := h.GetResult()
			if err == nil && !o.Paid {
				err = errors.New("the result is wrong")
			}
			return err
		}
		if err := one("warm"); err != nil {
			return err
		}
		r.Start()
		err = each(r.N, callers, func(i int) error { return one(strconv.Itoa(i)) })
		r.Stop(r.N)
		close(done)
		for range inParallel {
			err = errors.Join(err, <-answers)
		}
		return err
	}
}

// answer answers what workflows ask, as another service would.
func answer(c dbos.Context, done <-chan struct{}) error {
	for {
		select {
		case id := <-asked:
			if err := dbos.Send(c, id, true, "captured"); err != nil {
				return err
			}
		case <-done:
			return nil
		}
	}
}
