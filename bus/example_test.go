package bus_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// OrderPlaced is an event.
type OrderPlaced struct {
	OrderID string `json:"order_id"`
	Cents   int64  `json:"cents"`
}

func (OrderPlaced) EventName() string  { return "orders.placed" }
func (e OrderPlaced) EventKey() string { return e.OrderID }

// OrderPaid is what follows.
type OrderPaid struct {
	OrderID string `json:"order_id"`
}

func (OrderPaid) EventName() string { return "orders.paid" }

func Example() {
	ctx := context.Background()
	t, err := transport.Open(ctx, "memory:") // or sqlite:shop.db, postgres://…, amqp://…
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	b, err := bus.New(bus.Config{Name: "shop", Transport: t})
	if err != nil {
		log.Fatal(err)
	}
	done := make(chan struct{})
	bus.Handle(b, "billing", func(ctx context.Context, e OrderPlaced) error {
		fmt.Printf("charge %d cents for %s\n", e.Cents, e.OrderID)
		return b.Publish(ctx, OrderPaid{OrderID: e.OrderID})
	})
	bus.Handle(b, "shipping", func(ctx context.Context, e OrderPaid) error {
		fmt.Println("ship", e.OrderID)
		close(done)
		return nil
	})
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := b.Publish(ctx, OrderPlaced{OrderID: "o1", Cents: 1999}); err != nil {
		log.Fatal(err)
	}
	<-done
	if err := b.Stop(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// charge 1999 cents for o1
	// ship o1
}

// play runs a bus until all that was published is handled.
func play(cfg bus.Config, wire func(b *bus.Bus), events ...bus.Event) {
	ctx := context.Background()
	t := memory.New(memory.Config{})
	defer t.Close()
	cfg.Transport, cfg.Logger = t, slog.New(slog.DiscardHandler)
	b, err := bus.New(cfg)
	if err != nil {
		log.Fatal(err)
	}
	wire(b)
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	if err := b.Publish(ctx, events...); err != nil {
		log.Fatal(err)
	}
	if err := t.WaitIdle(ctx); err != nil {
		log.Fatal(err)
	}
	if err := b.Stop(ctx); err != nil {
		log.Fatal(err)
	}
}

func ExampleHandle() {
	play(bus.Config{}, func(b *bus.Bus) {
		// Both handlers share one subscription of the group on the topic "orders".
		bus.Handle(b, "mailing", func(ctx context.Context, e OrderPlaced) error {
			fmt.Println("thank for", e.OrderID)
			return nil
		})
		bus.Handle(b, "mailing", func(ctx context.Context, e OrderPaid) error {
			fmt.Println("send the receipt for", e.OrderID)
			return nil
		})
	}, OrderPlaced{OrderID: "o1"})
	// Output: thank for o1
}

func ExampleBus_Publish() {
	play(bus.Config{Groups: map[string]bus.GroupConfig{"audit": {Workers: 1}}}, func(b *bus.Bus) {
		bus.Handle(b, "billing", func(ctx context.Context, e OrderPlaced) error {
			// With the handler's ctx, the new message is known to be caused by this one.
			return b.Publish(ctx, OrderPaid{OrderID: e.OrderID}, OrderPaid{OrderID: e.OrderID + " again"})
		})
		bus.Handle(b, "audit", func(ctx context.Context, e OrderPaid) error {
			d, _ := bus.DeliveryFrom(ctx)
			fmt.Printf("%s, caused by %s\n", e.OrderID, d.Message().CausationID)
			return nil
		})
	}, bus.WithID("message-1", OrderPlaced{OrderID: "o1"}))
	// Output:
	// o1, caused by message-1
	// o1 again, caused by message-1
}

func ExampleAfter() {
	var began time.Time
	play(bus.Config{}, func(b *bus.Bus) {
		began = time.Now()
		bus.Handle(b, "reminders", func(ctx context.Context, e OrderPlaced) error {
			fmt.Println("remind of", e.OrderID, time.Since(began) >= 20*time.Millisecond)
			return nil
		})
	}, bus.After(20*time.Millisecond, OrderPlaced{OrderID: "o1"}))
	// Output: remind of o1 true
}

func ExampleWithMetadata() {
	play(bus.Config{}, func(b *bus.Bus) {
		bus.Handle(b, "billing", func(ctx context.Context, e OrderPlaced) error {
			d, _ := bus.DeliveryFrom(ctx)
			fmt.Println(e.OrderID, "for", d.Message().Metadata["tenant"])
			return nil
		})
	}, bus.WithMetadata(map[string]string{"tenant": "acme"}, OrderPlaced{OrderID: "o1"}))
	// Output: o1 for acme
}

func ExamplePermanent() {
	quarantine := func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			err := next(ctx, d)
			if bus.IsPermanent(err) {
				fmt.Println("set aside:", err)
				return nil // acknowledged
			}
			return err
		}
	}
	play(bus.Config{Middleware: []bus.Middleware{quarantine}}, func(b *bus.Bus) {
		bus.Handle(b, "billing", func(ctx context.Context, e OrderPlaced) error {
			return bus.Permanent(errors.New("card declined")) // no repetition will help
		})
	}, OrderPlaced{OrderID: "o1"})
	// Output: set aside: card declined
}

func ExampleRetryAfter() {
	play(bus.Config{}, func(b *bus.Bus) {
		bus.Handle(b, "billing", func(ctx context.Context, e OrderPlaced) error {
			d, _ := bus.DeliveryFrom(ctx)
			fmt.Println("attempt", d.Attempt)
			if d.Attempt < 3 {
				return bus.RetryAfter(10*time.Millisecond, errors.New("gateway is busy"))
			}
			return nil
		})
	}, OrderPlaced{OrderID: "o1"})
	// Output:
	// attempt 1
	// attempt 2
	// attempt 3
}

// Versions of an event: the older one stays in the code for the messages that are still stored.
type (
	PriceChanged1 struct{ Euros int }
	PriceChanged  struct{ Cents int }
)

func (PriceChanged1) EventName() string { return "goods.price_changed" }
func (PriceChanged) EventName() string  { return "goods.price_changed" }
func (PriceChanged) EventVersion() int  { return 2 }

func ExampleUpcast() {
	play(bus.Config{Groups: map[string]bus.GroupConfig{"catalog": {Workers: 1}}}, func(b *bus.Bus) {
		bus.Upcast(b, func(old PriceChanged1) (PriceChanged, error) {
			return PriceChanged{Cents: 100 * old.Euros}, nil
		})
		bus.Handle(b, "catalog", func(ctx context.Context, e PriceChanged) error {
			fmt.Println(e.Cents, "cents")
			return nil
		})
	}, PriceChanged1{Euros: 3}, PriceChanged{Cents: 250})
	// Output:
	// 300 cents
	// 250 cents
}

func ExampleGroupConfig() {
	cfg := bus.Config{Groups: map[string]bus.GroupConfig{
		"search":  {Workers: 1},                                                  // one after the other, in the order of the topic
		"metrics": {Delivery: bus.AtMostOnce},                                    // fast, and lost if handling fails
		"billing": {Workers: 32, MinBackoff: time.Second},                        // in parallel, in order per key
		"books":   {Needs: transport.Capabilities{Order: transport.OrderPerKey}}, // Start refuses another transport
	}}
	play(cfg, func(b *bus.Bus) {
		for group := range cfg.Groups {
			bus.Handle(b, group, func(ctx context.Context, e OrderPlaced) error {
				if group == "search" {
					fmt.Println("index", e.OrderID)
				}
				return nil
			})
		}
	}, OrderPlaced{OrderID: "o1"}, OrderPlaced{OrderID: "o2"}, OrderPlaced{OrderID: "o3"})
	// Output:
	// index o1
	// index o2
	// index o3
}

func ExampleDeliveryFrom() {
	play(bus.Config{}, func(b *bus.Bus) {
		bus.Handle(b, "audit", func(ctx context.Context, e OrderPlaced) error {
			d, _ := bus.DeliveryFrom(ctx)
			fmt.Println(d.Message().ID, d.Message().Name, d.Message().Key, d.Topic, d.Group, d.Attempt)
			return nil
		})
	}, bus.WithID("message-1", OrderPlaced{OrderID: "o1"}))
	// Output: message-1 orders.placed o1 orders audit 1
}

func ExampleBus_Run() {
	t := memory.New(memory.Config{})
	defer t.Close()
	b, err := bus.New(bus.Config{Transport: t, StopTimeout: 10 * time.Second})
	if err != nil {
		log.Fatal(err)
	}
	bus.Handle(b, "billing", func(ctx context.Context, e OrderPlaced) error { return nil })

	// In a program: signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		for ctx.Err() == nil && b.State() != "running" {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	fmt.Println(b.Run(ctx)) // drains, and returns nil if all handlers could finish
	// Output: <nil>
}
