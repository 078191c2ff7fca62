package watermill_test

import (
	"context"
	"fmt"
	"log"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/watermill"
)

type greeted struct{ Name string }

func (greeted) EventName() string { return "people.greeted" }

// A bus on a Watermill Pub/Sub.
func ExampleNew() {
	ctx := context.Background()
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, nil) // or Kafka, NATS, …
	t, err := watermill.New(watermill.Config{
		Publisher:  pubsub,
		Subscriber: func(group string) (message.Subscriber, error) { return pubsub, nil },
	})
	if err != nil {
		log.Fatal(err)
	}
	defer t.Close()
	b, err := bus.New(bus.Config{Name: "example", Transport: t})
	if err != nil {
		log.Fatal(err)
	}
	handled := make(chan string)
	bus.Handle(b, "printer", func(_ context.Context, e greeted) error {
		handled <- e.Name
		return nil
	})
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	defer b.Stop(ctx)
	if err := b.Publish(ctx, greeted{"Ada"}); err != nil {
		log.Fatal(err)
	}
	fmt.Println("hello,", <-handled)
	// Output: hello, Ada
}

// A Watermill Publisher and Subscriber on a transport.
func ExampleNewSubscriber() {
	t := memory.New(memory.Config{})
	defer t.Close()
	sub, err := watermill.NewSubscriber(t, watermill.SubscriberConfig{Group: "printer"})
	if err != nil {
		log.Fatal(err)
	}
	defer sub.Close()
	messages, err := sub.Subscribe(context.Background(), "people")
	if err != nil {
		log.Fatal(err)
	}
	pub := watermill.NewPublisher(t)
	if err := pub.Publish("people", message.NewMessage("1", []byte("Ada"))); err != nil {
		log.Fatal(err)
	}
	msg := <-messages
	fmt.Printf("hello, %s\n", msg.Payload)
	msg.Ack()
	// Output: hello, Ada
}
