// Nofx is the program of examples/fx, wired by hand: the same configuration, and no framework.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/middleware"
	_ "github.com/postbus/postbus/transport/memory"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders.placed" }

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string { return "payments.paid" }

// Billing is one module.
type Billing struct{ Events bus.Publisher }

func (s *Billing) Wire(b *bus.Bus) { bus.Handle(b, "billing", s.Charge) }

func (s *Billing) Charge(ctx context.Context, e Placed) error {
	fmt.Println("charging", e.OrderID)
	return s.Events.Publish(ctx, Paid(e))
}

// Shipping is another.
type Shipping struct{ Done func() }

func (s *Shipping) Wire(b *bus.Bus) { bus.Handle(b, "shipping", s.Ship) }

func (s *Shipping) Ship(_ context.Context, e Paid) error {
	fmt.Println("shipping", e.OrderID)
	s.Done()
	return nil
}

func run(ctx context.Context) (err error) {
	cfg, err := config.Load("examples/fx/shop.yaml", os.Environ())
	if err != nil {
		return err
	}
	t, err := cfg.OpenTransport(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }() // whoever opens a thing closes it, after the bus has stopped
	b, err := bus.New(cfg.Bus(t, middleware.StandardConfig{}))
	if err != nil {
		return err
	}
	ctx, done := context.WithCancel(ctx)
	defer done()
	(&Billing{Events: b}).Wire(b)
	(&Shipping{Done: done}).Wire(b)
	if err := b.Start(ctx); err != nil { // says all that is wired wrongly
		return err
	}
	if err := b.Publish(ctx, Placed{OrderID: "o-1"}); err != nil {
		return err
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.Background(), bus.DefaultStopTimeout)
	defer cancel()
	return b.Stop(stop)
}

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()
	if err := run(ctx); err != nil {
		log.Fatal(err)
	}
}
