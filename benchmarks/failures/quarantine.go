package failures

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/postgres"
)

const (
	// inQuarantine is how many messages a run of quarantine-postgres and replay-postgres has.
	inQuarantine = 5000
	// workers handle them.
	workers = 32
)

// placed is an event of the usual size.
type placed struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

func (placed) EventName() string { return "orders.placed" }

func order(i int) placed { return placed{"order-" + strconv.Itoa(i), "customer-4711", 1234} }

// ward is a bus on PostgreSQL with a quarantine in the same database.
type ward struct {
	db        *store.DB
	transport *postgres.Transport
	store     *quarantine.Store
	bus       *bus.Bus
	healthy   atomic.Bool
	handled   atomic.Int64
	topic     string
}

var serial atomic.Int64

func openWard(ctx context.Context, url string) (*ward, error) {
	db, err := store.Open(ctx, url)
	if err != nil {
		return nil, err
	}
	w := &ward{db: db, topic: "w" + strconv.FormatInt(serial.Add(1), 10)}
	quiet := slog.New(slog.DiscardHandler)
	if w.transport, err = postgres.New(ctx, db, postgres.Config{Logger: quiet}); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	w.store = quarantine.New(db, quarantine.Config{Transport: w.transport, Logger: quiet})
	if err := w.store.Prepare(ctx); err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	_, err = db.SQL().ExecContext(ctx, "TRUNCATE postbus_quarantine, postbus_quarantine_kind")
	if err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	w.bus, err = bus.New(bus.Config{
		Transport: w.transport, Logger: quiet, Topic: func(string) string { return w.topic },
		Groups: map[string]bus.GroupConfig{"billing": {Workers: workers}},
		Middleware: middleware.Standard(middleware.StandardConfig{
			Quarantine: w.store, Log: middleware.LogConfig{Logger: quiet},
		}),
	})
	if err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	bus.Handle(w.bus, "billing", func(_ context.Context, e placed) error {
		if !w.healthy.Load() {
			return bus.Permanent(fmt.Errorf("charge %q: the bank is closed", e.OrderID))
		}
		w.handled.Add(1)
		return nil
	})
	return w, nil
}

func (w *ward) close(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	var errs []error
	if w.bus != nil {
		errs = append(errs, w.bus.Stop(ctx))
	}
	return errors.Join(append(errs, w.transport.Close(), w.db.Close())...)
}

// publish publishes orders before anybody reads them.
func (w *ward) publish(ctx context.Context, n int) error {
	var events []bus.Event
	for i := range n {
		events = append(events, order(i))
	}
	p, err := bus.NewPublisher(bus.PublisherConfig{
		Publish: w.transport.Publish, Capabilities: w.transport.Capabilities(), Topic: func(string) string { return w.topic },
	})
	if err != nil {
		return err
	}
	return p.Publish(ctx, events...)
}

func (w *ward) await(ctx context.Context, what string, ok func() (bool, error)) error {
	for {
		done, err := ok()
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, ctx.Err())
		case <-time.After(time.Millisecond):
		}
	}
}

// fill brings n messages into quarantine.
func (w *ward) fill(ctx context.Context, n int) error {
	return w.await(ctx, "quarantine", func() (bool, error) {
		return w.bus.Stats()["billing"].SetAside == uint64(n), nil
	})
}

func (w *ward) verify(ctx context.Context, status quarantine.Status, n int) error {
	got, err := w.store.Count(ctx, quarantine.Filter{Status: status})
	if err == nil && got != n {
		err = fmt.Errorf("%d entries are %s, want %d", got, status, n)
	}
	return err
}

// quarantined measures messages that are read from PostgreSQL, fail for good, and are in quarantine there in the end.
func quarantined(url *string) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		w, err := openWard(ctx, *url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close(ctx)) }()
		if err := w.publish(ctx, r.N); err != nil {
			return err
		}
		r.Start()
		if err := w.bus.Start(ctx); err != nil {
			return err
		}
		if err := w.fill(ctx, r.N); err != nil {
			return err
		}
		r.Stop(r.N)
		return w.verify(ctx, quarantine.Waiting, r.N)
	}
}

// replayed measures a replay of all that is in quarantine, until the group has handled it.
func replayed(url *string) bench.Contender {
	return func(ctx context.Context, r *bench.Run) (err error) {
		w, err := openWard(ctx, *url)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, w.close(ctx)) }()
		if err := errors.Join(w.publish(ctx, r.N), w.bus.Start(ctx)); err != nil {
			return err
		}
		if err := w.fill(ctx, r.N); err != nil {
			return err
		}
		w.healthy.Store(true)
		r.Start()
		if _, err := w.store.Replay(ctx, quarantine.Filter{All: true}, quarantine.ReplayOptions{}); err != nil {
			return err
		}
		err = w.await(ctx, "replay", func() (bool, error) { return w.handled.Load() >= int64(r.N), nil })
		if err != nil {
			return err
		}
		r.Stop(r.N)
		return w.verify(ctx, quarantine.Replayed, r.N)
	}
}
