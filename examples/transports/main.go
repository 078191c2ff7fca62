// Transports runs the same program on any transport: its URL is the argument, and memory is the default.
package main

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"

	// Each import links one driver in.
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string  { return "orders.placed" }
func (e Placed) EventKey() string { return e.OrderID } // messages with one key are handled in order

func main() {
	url := "memory:"
	if len(os.Args) > 1 {
		url = os.Args[1]
	}
	ctx := context.Background()
	t, err := transport.Open(ctx, url)
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	fmt.Println("survives a crash:", t.Capabilities().Durable)

	b, err := bus.New(bus.Config{
		Transport: t,
		Groups: map[string]bus.GroupConfig{
			// Start refuses a transport that cannot do what the group needs.
			"billing": {Workers: 4, Needs: transport.Capabilities{Delay: true}},
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	handled := make(chan string)
	bus.Handle(b, "billing", func(_ context.Context, e Placed) error {
		handled <- e.OrderID
		return nil
	})
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	for i := range 3 {
		if err := b.Publish(ctx, Placed{OrderID: fmt.Sprint("o-", i+1)}); err != nil {
			log.Fatal(err)
		}
	}
	got := map[string]bool{}
	for len(got) < 3 {
		got[<-handled] = true
	}
	fmt.Println("handled:", len(got))
	if err := b.Stop(ctx); err != nil {
		log.Fatal(err)
	}
}
