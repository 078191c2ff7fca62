// Watermill joins a program on Watermill: what it publishes is handled by a bus, and what the bus publishes arrives at its
// router. Both keep their own topics, messages and Pub/Sub.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/postbus/postbus/bus"
	postbus "github.com/postbus/postbus/transport/watermill"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders" } // a name without a dot is its own topic

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string { return "payments" }

func main() {
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, watermill.NopLogger{}) // or Kafka, NATS, Google Cloud, …
	paid := make(chan string)

	// The program that there is.
	router, err := message.NewRouter(message.RouterConfig{}, watermill.NopLogger{})
	if err != nil {
		log.Fatal(err)
	}
	router.AddConsumerHandler("ship", "payments", pubsub, func(m *message.Message) error {
		var e struct {
			OrderID string `json:"order_id"`
		}
		if err := json.Unmarshal(m.Payload, &e); err != nil {
			return err
		}
		paid <- e.OrderID
		return nil
	})

	// The bus beside it.
	t, err := postbus.New(postbus.Config{
		Publisher:  pubsub,
		Subscriber: func(group string) (message.Subscriber, error) { return pubsub, nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	b, err := bus.New(bus.Config{Transport: t})
	if err != nil {
		log.Fatal(err)
	}
	bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
		fmt.Println("bus: charging", e.OrderID)
		return b.Publish(ctx, Paid(e))
	})

	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		if err := router.Run(ctx); err != nil {
			log.Fatal(err)
		}
	}()
	<-router.Running()
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	order := message.NewMessage(watermill.NewUUID(), []byte(`{"order_id":"o-1"}`))
	order.Metadata.Set("name", "orders")
	if err := pubsub.Publish("orders", order); err != nil {
		log.Fatal(err)
	}
	fmt.Println("watermill: shipping", <-paid)
	if err := b.Stop(ctx); err != nil {
		log.Fatal(err)
	}
}
