// Quickstart is the first program of README.md: it publishes one event and handles it.
package main

import (
	"context"
	"fmt"
	"log"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport/memory"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders.placed" }

func main() {
	t := memory.New(memory.Config{})
	defer t.Close()
	b, err := bus.New(bus.Config{Transport: t, Middleware: middleware.Standard(middleware.StandardConfig{})})
	if err != nil {
		log.Fatal(err)
	}
	ctx, done := context.WithCancel(context.Background())
	bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
		fmt.Println("charging", e.OrderID)
		done() // a program that goes on serving leaves this to Ctrl-C
		return nil
	})
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := b.Publish(ctx, Placed{OrderID: "o-1"}); err != nil {
		log.Fatal(err)
	}
	<-ctx.Done()
	if err := b.Stop(context.Background()); err != nil {
		log.Fatal(err)
	}
}
