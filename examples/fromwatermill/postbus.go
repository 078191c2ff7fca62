package main

import (
	"context"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport/memory"
)

func withPostbus(ctx context.Context) error {
	t := memory.New(memory.Config{})
	defer t.Close()
	b, err := bus.New(bus.Config{
		Transport:  t,
		Middleware: middleware.Standard(middleware.StandardConfig{Timeout: 30 * time.Second}),
	})
	if err != nil {
		return err
	}
	done := make(chan struct{})
	bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
		defer close(done)
		return charge("Postbus")(ctx, e)
	})
	if err := b.Start(ctx); err != nil {
		return err
	}
	if err := b.Publish(ctx, Placed{OrderID: "o-1"}); err != nil {
		return err
	}
	<-done
	return b.Stop(ctx)
}
