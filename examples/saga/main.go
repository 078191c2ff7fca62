// Saga takes orders through reservation, payment and shipping, and undoes what was done where a card is declined. It can be
// killed at any moment: what is under way is in the database.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/sqlite"
)

type Placed struct{ OrderID string }
type Requested struct{ OrderID string } // a payment
type Captured struct{ OrderID string }
type Declined struct{ OrderID string }

func (Placed) EventName() string    { return "orders.placed" }
func (Requested) EventName() string { return "payments.requested" }
func (Captured) EventName() string  { return "payments.captured" }
func (Declined) EventName() string  { return "payments.declined" }

// Order is the state of a checkout.
type Order struct{ ID string }

func say(what string) func(context.Context, *saga.Run[Order]) error {
	return func(_ context.Context, r *saga.Run[Order]) error {
		fmt.Println(r.Key()+":", what)
		return nil
	}
}

var Checkout = saga.Definition[Order]{
	Name: "checkout", Version: 1,
	Start: saga.StartOn(func(e Placed) (string, Order) { return e.OrderID, Order{ID: e.OrderID} }),
	Steps: []saga.Step[Order]{
		{Name: "reserve", Do: say("reserve"), Undo: say("release")},
		{Name: "charge", Timeout: 15 * time.Minute,
			Do: func(ctx context.Context, r *saga.Run[Order]) error {
				return r.Publish(ctx, Requested{OrderID: r.Key()})
			},
			Await: saga.Replies(
				saga.Continue(func(*Order, Captured) error { return nil }, func(e Captured) string { return e.OrderID }),
				saga.Abort(func(*Order, Declined) error { return nil }, func(e Declined) string { return e.OrderID }))},
		{Name: "ship", Do: say("ship"), Pivot: true}, // past the pivot: forward only
	},
}

func run(ctx context.Context, file string) error {
	db, err := store.Open(ctx, "sqlite:"+file)
	if err != nil {
		return err
	}
	defer db.Close()
	t, err := sqlite.New(ctx, db, sqlite.Config{})
	if err != nil {
		return err
	}
	defer t.Close()
	b, err := bus.New(bus.Config{Transport: t})
	if err != nil {
		return err
	}
	ended := make(chan saga.Status, 2)
	var known sync.Map // several entries of a journal can come with the end
	o, err := saga.New(b, outbox.New(db, outbox.Config{Transport: t}), saga.Config{
		Sagas: []saga.Saga{Checkout},
		Hooks: []saga.Hook{{Observe: func(i saga.Instance, _ saga.Entry) {
			if !i.Status.Ended() {
				return
			}
			if _, before := known.LoadOrStore(i.Key, true); !before {
				ended <- i.Status
			}
		}}},
	})
	if err != nil {
		return err
	}
	bus.Handle(b, "payments", func(ctx context.Context, e Requested) error {
		if e.OrderID == "o-2" {
			return b.Publish(ctx, Declined(e))
		}
		return b.Publish(ctx, Captured(e))
	})
	if err := o.Start(ctx); err != nil {
		return err
	}
	if err := b.Start(ctx); err != nil {
		return err
	}
	for _, id := range []string{"o-1", "o-2"} {
		if err := b.Publish(ctx, Placed{OrderID: id}); err != nil {
			return err
		}
		fmt.Println(id+":", <-ended)
	}
	if err := b.Stop(ctx); err != nil {
		return err
	}
	return o.Stop(ctx)
}

func main() {
	dir, err := os.MkdirTemp("", "saga")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := run(context.Background(), filepath.Join(dir, "shop.db")); err != nil {
		log.Fatal(err)
	}
}
