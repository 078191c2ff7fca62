package outbox

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/transport/memory"
)

// each calls f for 0 to n-1 from the clients.
func each(n, clients int, f func(i int) error) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for range clients {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
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

const insertBusiness = "INSERT INTO business (customer, cents) VALUES ($1, $2)"

// business commits a row and what publish adds.
func business(ctx context.Context, i int, publish func(tx *sql.Tx) error) error {
	tx, err := db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	if _, err := tx.ExecContext(ctx, insertBusiness, "customer-4711", i); err != nil {
		return err
	}
	if err := publish(tx); err != nil {
		return err
	}
	return tx.Commit()
}

func inTx(ctx context.Context, r *bench.Run) error {
	box, err := filled(ctx, 1)
	if err != nil {
		return err
	}
	r.Start()
	err = each(r.N, clients, func(i int) error {
		return business(ctx, i, func(tx *sql.Tx) error { return box.In(tx).Publish(ctx, event(i)) })
	})
	r.Stop(r.N)
	return errors.Join(err, empty(ctx))
}

func insertAlone(ctx context.Context, r *bench.Run) error {
	r.Start()
	err := each(r.N, clients, func(i int) error { return business(ctx, i, func(*sql.Tx) error { return nil }) })
	r.Stop(r.N)
	return errors.Join(err, empty(ctx))
}

// insertsByHand is what inTx has the database do, by hand.
func insertsByHand(ctx context.Context, r *bench.Run) error {
	table, err := outboxTable(ctx)
	if err != nil {
		return err
	}
	run := unique("run")
	r.Start()
	err = each(r.N, clients, func(i int) error {
		return business(ctx, i, func(tx *sql.Tx) error { return insertMessage(ctx, tx, table, run+"-"+strconv.Itoa(i), event(i), topic) })
	})
	r.Stop(r.N)
	return errors.Join(err, empty(ctx))
}

// outboxTable makes an outbox, and returns the name of its table.
func outboxTable(ctx context.Context) (string, error) {
	_, err := filled(ctx, 1)
	return fmt.Sprintf(`"watermill_box%d"`, serial.Load()), err
}

// insertMessage writes what a Box does for an event.
func insertMessage(ctx context.Context, tx *sql.Tx, table, id string, e bus.Event, topic string) error {
	payload, err := json.Marshal(e)
	if err != nil {
		return err
	}
	metadata, err := json.Marshal(map[string]string{"name": e.EventName(), "correlation_id": id, "postbus_causation_id": id, "postbus_time": time.Now().UTC().Format(time.RFC3339Nano), "topic": topic})
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, "INSERT INTO "+table+` (uuid, created_at, metadata, payload, transaction_id)
		VALUES ($1, clock_timestamp() AT TIME ZONE 'UTC', $2::text::json, $3::bytea, pg_current_xact_id())`, id, string(metadata), payload)
	return err
}

// empty has no run meet what another has left.
func empty(ctx context.Context) error {
	_, err := db.SQL().ExecContext(ctx, "TRUNCATE business")
	return err
}

type paid struct {
	OrderID string `json:"order_id"`
}

func (paid) EventName() string { return "payments.paid" }

// handle measures outbox.Handle on messages that wait in memory: a row, and an event.
func handle(ctx context.Context, r *bench.Run) (err error) {
	box, err := filled(ctx, 1)
	if err != nil {
		return err
	}
	t := memory.New(memory.Config{Capacity: r.N + 1})
	defer func() { err = errors.Join(err, t.Close()) }()
	b, err := bus.New(bus.Config{Transport: t, Logger: quiet, Groups: map[string]bus.GroupConfig{group: {Workers: workers}}})
	if err != nil {
		return err
	}
	outbox.Handle(b, group, box, func(ctx context.Context, tx *outbox.Tx, e placed) error {
		if _, err := tx.ExecContext(ctx, insertBusiness, e.Customer, e.Cents); err != nil {
			return err
		}
		return tx.Publish(ctx, paid{e.OrderID})
	})
	if err := b.Start(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Stop(ctx)) }()
	events := make([]bus.Event, r.N)
	for i := range events {
		events[i] = event(i)
	}
	r.Start()
	if err := b.Publish(ctx, events...); err != nil {
		return err
	}
	for b.Stats()[group].Handled < uint64(r.N) {
		if err := ctx.Err(); err != nil {
			return err
		}
		time.Sleep(100 * time.Microsecond)
	}
	r.Stop(r.N)
	return errors.Join(verify(ctx, r.N), empty(ctx))
}

// bareTx is what handle has the database do, by hand.
func bareTx(ctx context.Context, r *bench.Run) error {
	table, err := outboxTable(ctx)
	if err != nil {
		return err
	}
	run := unique("run")
	r.Start()
	err = each(r.N, workers, func(i int) error {
		tx, err := db.SQL().BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		defer func() { _ = tx.Rollback() }()
		id := run + "-" + strconv.Itoa(i)
		res, err := tx.ExecContext(ctx, "INSERT INTO postbus_inbox (grp, id, at_ms) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING", group, id, time.Now().UnixMilli())
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); err != nil || n != 1 {
			return errors.Join(err, errors.New("handled before"))
		}
		e := event(i)
		if _, err := tx.ExecContext(ctx, insertBusiness, e.Customer, e.Cents); err != nil {
			return err
		}
		if err := insertMessage(ctx, tx, table, id, paid{e.OrderID}, "payments"); err != nil {
			return err
		}
		return tx.Commit()
	})
	r.Stop(r.N)
	return errors.Join(err, verify(ctx, r.N), empty(ctx))
}

func verify(ctx context.Context, n int) error {
	var got int
	if err := db.SQL().QueryRowContext(ctx, "SELECT count(*) FROM business").Scan(&got); err != nil {
		return err
	}
	if got != n {
		return fmt.Errorf("%d rows were written, want %d", got, n)
	}
	return nil
}
