package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport/memory"
)

type invoiced struct {
	OrderID string `json:"order_id"`
	Cents   int64  `json:"cents"`
}

func (invoiced) EventName() string { return "orders.invoiced" }

// A message that cannot be handled is found, fixed and replayed.
func Example() {
	ctx := context.Background()
	t := memory.New(memory.Config{})
	defer t.Close()
	q, err := quarantine.Open(ctx, "sqlite::memory:", quarantine.Config{Transport: t}) // or sqlite:quarantine.db, postgres://…
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()
	b, err := bus.New(bus.Config{Transport: t, Middleware: middleware.Standard(middleware.StandardConfig{
		Quarantine: q, Log: middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)},
	})})
	if err != nil {
		log.Fatal(err)
	}
	bus.Handle(b, "billing", func(_ context.Context, e invoiced) error {
		if e.Cents < 0 {
			return bus.Permanent(errors.New("a negative invoice"))
		}
		fmt.Println("billed", e.OrderID, e.Cents)
		return nil
	})
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := b.Publish(ctx, invoiced{"o-1", -500}); err != nil {
		log.Fatal(err)
	}
	if err := t.WaitIdle(ctx); err != nil {
		log.Fatal(err)
	}

	kinds, err := q.Fingerprints(ctx, quarantine.Filter{}, 10)
	if err != nil {
		log.Fatal(err)
	}
	for _, k := range kinds {
		fmt.Println(k.Count, k.Group, k.Event, k.Pattern)
	}
	entries, _, err := q.List(ctx, quarantine.Filter{Fingerprint: kinds[0].Fingerprint}, quarantine.Page{})
	if err != nil {
		log.Fatal(err)
	}
	id := entries[0].ID
	if err := q.Edit(ctx, id, quarantine.Edit{Payload: []byte(`{"order_id":"o-1","cents":500}`)}); err != nil {
		log.Fatal(err)
	}
	if _, err := q.Replay(ctx, quarantine.Filter{IDs: []int64{id}}, quarantine.ReplayOptions{}); err != nil {
		log.Fatal(err)
	}
	if err := errors.Join(t.WaitIdle(ctx), b.Stop(ctx)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 1 billing orders.invoiced a negative invoice
	// billed o-1 500
}
