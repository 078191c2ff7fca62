// Middleware stands around the handlers: the standard chain with a quarantine, a rule about an error, and a middleware of
// the program's own.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport/memory"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders.placed" }

var (
	ErrBusy     = errors.New("the bank is busy")
	ErrDeclined = errors.New("card declined")
)

// printed is a quarantine that keeps messages on the screen.
type printed struct{ done chan struct{} }

func (q printed) Put(_ context.Context, d *bus.Delivery, cause error) error {
	fmt.Printf("quarantine: %s, delivery %d: %v\n", d.Message().Name, d.Attempt, cause)
	close(q.done)
	return nil
}

// audit is a middleware: it sees what becomes of each delivery.
func audit(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		err := next(ctx, d)
		switch {
		case bus.IsSetAside(err):
			fmt.Println("audit: set aside")
		case err == nil:
			fmt.Println("audit: handled")
		}
		return err
	}
}

func main() {
	t := memory.New(memory.Config{})
	defer t.Close()
	done := make(chan struct{})
	standard := middleware.Standard(middleware.StandardConfig{
		Log:        middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)}, // errors are expected here
		Quarantine: printed{done},
		Delays:     []time.Duration{10 * time.Millisecond}, // longer in real life: a minute, an hour
		Retry:      middleware.RetryConfig{Attempts: 2},
		Timeout:    5 * time.Second,
	})
	b, err := bus.New(bus.Config{
		Transport:  t,
		Middleware: append([]bus.Middleware{audit}, standard...),        // the first is the outermost
		Groups:     map[string]bus.GroupConfig{"billing": {Workers: 1}}, // one at a time: tries has no lock
	})
	if err != nil {
		log.Fatal(err)
	}
	tries := 0
	bus.Handle(b, "billing", func(_ context.Context, e Placed) error {
		switch tries++; {
		case e.OrderID == "o-2":
			return bus.Permanent(ErrDeclined) // no repetition mends it
		case tries < 3:
			fmt.Println("try", tries, "failed")
			return ErrBusy
		}
		fmt.Println("charged", e.OrderID, "at try", tries)
		return b.Publish(context.Background(), Placed{OrderID: "o-2"})
	})
	ctx := context.Background()
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := b.Publish(ctx, Placed{OrderID: "o-1"}); err != nil {
		log.Fatal(err)
	}
	<-done
	if err := b.Stop(ctx); err != nil {
		log.Fatal(err)
	}
}
