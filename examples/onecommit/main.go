// Onecommit puts rows, events and the message that caused them into one commit: an order that is rolled back is never heard of,
// and a message that is delivered twice is handled once.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/sqlite"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string  { return "orders.placed" }
func (e Placed) EventKey() string { return "all" } // handled in order

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string  { return "payments.paid" }
func (e Paid) EventKey() string { return "all" }

// place stores an order and publishes it, or neither.
func place(ctx context.Context, db *store.DB, box *outbox.Box, id string, event bus.Event, fail bool) error {
	tx, err := db.SQL().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if _, err := tx.ExecContext(ctx, `insert into orders (id) values (?)`, id); err != nil {
		return err
	}
	if err := box.In(tx).Publish(ctx, event); err != nil {
		return err
	}
	if fail {
		return errors.New("the customer's limit is exceeded")
	}
	return tx.Commit()
}

func run(ctx context.Context, file string) (err error) {
	db, err := store.Open(ctx, "sqlite:"+file) // or postgres://…, mysql://…
	if err != nil {
		return err
	}
	defer db.Close()
	t, err := sqlite.New(ctx, db, sqlite.Config{})
	if err != nil {
		return err
	}
	defer t.Close()
	if _, err := db.SQL().ExecContext(ctx, `create table orders (id text); create table charges (order_id text)`); err != nil {
		return err
	}
	box := outbox.New(db, outbox.Config{Transport: t}) // one database: events go straight to their topics
	if err := box.Prepare(ctx); err != nil {
		return err
	}
	b, err := bus.New(bus.Config{Transport: t})
	if err != nil {
		return err
	}
	outbox.Handle(b, "billing", box, func(ctx context.Context, tx *outbox.Tx, e Placed) error {
		if _, err := tx.ExecContext(ctx, `insert into charges (order_id) values (?)`, e.OrderID); err != nil {
			return err
		}
		return tx.Publish(ctx, Paid(e)) // with the row, and with the note that the message was handled
	})
	paid := make(chan string, 10)
	bus.Handle(b, "shipping", func(_ context.Context, e Paid) error {
		paid <- e.OrderID
		return nil
	})
	if err := b.Start(ctx); err != nil {
		return err
	}
	if err := place(ctx, db, box, "o-1", Placed{"o-1"}, true); err != nil {
		fmt.Println("o-1 was rolled back:", err)
	}
	// The same message twice, as after a crash: it has the same id.
	for range 2 {
		if err := place(ctx, db, box, "o-2", bus.WithID("placed-o-2", Placed{"o-2"}), false); err != nil {
			return err
		}
	}
	if err := place(ctx, db, box, "o-3", Placed{"o-3"}, false); err != nil {
		return err
	}
	fmt.Println("shipping", <-paid)
	fmt.Println("shipping", <-paid)
	var charges int
	if err := db.SQL().QueryRowContext(ctx, `select count(*) from charges`).Scan(&charges); err != nil {
		return err
	}
	fmt.Println("charges:", charges)
	return b.Stop(ctx)
}

func main() {
	dir, err := os.MkdirTemp("", "outbox")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), filepath.Join(dir, "shop.db")); err != nil {
		log.Fatal(err)
	}
}
