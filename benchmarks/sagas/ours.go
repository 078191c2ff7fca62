package sagas

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/postgres"
)

// The events.
type (
	placed   struct{ ID string }
	ask      struct{ ID string }
	captured struct{ ID string }
)

func (placed) EventName() string    { return "orders.placed" }
func (e placed) EventKey() string   { return e.ID }
func (ask) EventName() string       { return "payments.ask" }
func (e ask) EventKey() string      { return e.ID }
func (captured) EventName() string  { return "payments.captured" }
func (e captured) EventKey() string { return e.ID }

// order is the state.
type order struct {
	ID                      string
	Reserved, Paid, Shipped bool
}

type (
	step = saga.Step[order]
	run  = saga.Run[order]
)

func reserve(_ context.Context, r *run) error { r.State.Reserved = true; return nil }
func charge(_ context.Context, r *run) error  { r.State.Paid = true; return nil }
func ship(_ context.Context, r *run) error    { r.State.Shipped = true; return nil }

// define makes a saga of steps. Its name is new to each run, so that the group is.
func define(steps ...step) func(name string) saga.Definition[order] {
	return func(name string) saga.Definition[order] {
		return saga.Definition[order]{Name: name, Steps: steps,
			Start: saga.StartOn(func(e placed) (string, order) { return e.ID, order{ID: e.ID} })}
	}
}

var (
	localSteps = define(step{Name: "reserve", Do: reserve, Local: true}, step{Name: "charge", Do: charge, Local: true},
		step{Name: "ship", Do: ship, Local: true})
	awaitReply = define(step{Name: "charge", Local: true, Timeout: time.Hour,
		Do:    func(ctx context.Context, r *run) error { return r.Publish(ctx, ask{r.Key()}) },
		Await: saga.Replies(saga.Continue(func(o *order, e captured) error { o.Paid = true; return nil }))})
	beyond = define(step{Name: "reserve", Do: reserve, Local: true}, step{Name: "charge", Do: charge})
)

// database is one of ours.
type database struct{ url string }

var serial atomic.Int64

// program is a process of ours.
type program struct {
	db    *store.DB
	name  string
	bus   *bus.Bus
	saga  *saga.Orchestrator
	stop  func() error
	ended sync.Map // chan struct{} by key
	count atomic.Int64
	all   chan struct{} // closed when count has come to wanted
	want  int64
}

func (d *database) start(ctx context.Context, name string, def saga.Definition[order]) (p *program, err error) {
	return d.startWanting(ctx, name, def, 0)
}

// startWanting starts a program whose all closes when want instances have completed.
func (d *database) startWanting(ctx context.Context, name string, def saga.Definition[order], want int64) (p *program, err error) {
	p = &program{name: name, all: make(chan struct{}), want: want}
	conns, err := pool(ctx, d.url)
	if err != nil {
		return nil, err
	}
	p.db = store.UsePool(conns)
	logger := slog.New(slog.DiscardHandler)
	// Each event has a topic of its own, so that no group gets what it does not handle, and of this run, so that nothing is
	// there that another has left.
	topic := func(event string) string { return name + "." + event }
	t, err := postgres.New(ctx, p.db, postgres.Config{Logger: logger})
	if err != nil {
		return nil, err
	}
	p.bus, err = bus.New(bus.Config{Transport: t, Logger: logger, Topic: topic, Groups: map[string]bus.GroupConfig{
		"saga." + name: {Workers: inParallel}, "payments": {Workers: workers},
	}})
	if err != nil {
		return nil, err
	}
	bus.Handle(p.bus, "payments", func(ctx context.Context, e ask) error { return p.bus.Publish(ctx, captured(e)) })
	box := outbox.New(p.db, outbox.Config{Transport: t, Topic: topic, Logger: logger})
	p.saga, err = saga.New(p.bus, box, saga.Config{Sagas: []saga.Saga{def}, Workers: inParallel, Logger: logger, Hooks: []saga.Hook{{Observe: p.observe}}})
	if err != nil {
		return nil, err
	}
	p.stop = func() error {
		ctx := context.WithoutCancel(ctx)
		err := errors.Join(p.bus.Stop(ctx), p.saga.Stop(ctx), t.Close(), p.db.Close())
		conns.Close()
		return err
	}
	return p, errors.Join(p.saga.Start(ctx), p.bus.Start(ctx))
}

func (p *program) observe(i saga.Instance, e saga.Entry) {
	if e.Kind != saga.Ended {
		return
	}
	if i.Status == saga.Completed && p.count.Add(1) == p.want {
		close(p.all)
	}
	if c, ok := p.ended.Load(i.Key); ok {
		close(c.(chan struct{}))
	}
}

// one starts an instance and waits for its end.
func (p *program) one(ctx context.Context, key string) error {
	c := make(chan struct{})
	p.ended.Store(key, c)
	if err := p.bus.Publish(ctx, placed{key}); err != nil {
		return err
	}
	select {
	case <-c:
		p.ended.Delete(key)
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run measures a saga: callers, each of whom publishes the event that starts an instance, through PostgreSQL,
// and waits for its end.
func (d *database) run(def func(name string) saga.Definition[order], callers int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		name := "s" + strconv.FormatInt(serial.Add(1), 10)
		p, err := d.start(ctx, name, def(name))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.stop()) }()
		if err := p.one(ctx, "warm"); err != nil {
			return err
		}
		r.Start()
		if err := each(r.N, callers, func(i int) error { return p.one(ctx, strconv.Itoa(i)) }); err != nil {
			return err
		}
		r.Stop(r.N)
		return p.verify(ctx, r.N+1)
	}
}

// verify counts the instances that have completed.
func (p *program) verify(ctx context.Context, want int) error {
	var n int
	q := "SELECT COUNT(*) FROM postbus_saga WHERE saga = $1 AND status = 'completed'"
	if err := p.db.SQL().QueryRowContext(ctx, q, p.name).Scan(&n); err != nil {
		return err
	}
	if n != want {
		return fmt.Errorf("%d instances have completed, want %d", n, want)
	}
	return nil
}
