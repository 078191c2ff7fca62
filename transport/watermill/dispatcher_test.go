package watermill_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/watermill"
)

func TestPublisher(t *testing.T) {
	t.Parallel()
	tr, pub, _ := ours(t, watermill.SubscriberConfig{})
	if err := pub.Publish("orders"); err != nil {
		t.Errorf("Publish of nothing: %v", err)
	}
	bad := message.NewMessage("2", nil)
	bad.Metadata.Set("postbus_key", "\xff") // it is mended: a foreign text is no reason to refuse
	if err := pub.Publish("orders", message.NewMessage("1", nil), bad); err != nil {
		t.Error(err)
	}
	if err := pub.Publish("bad\ntopic", message.NewMessage("1", nil)); !errors.Is(err, transport.ErrInvalid) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "full", Group: "g"}); err != nil {
		t.Fatal(err)
	}
	for range 8 {
		if err := pub.Publish("full", message.NewMessage("1", nil)); err != nil {
			t.Fatal(err)
		}
	}
	msg := message.NewMessageWithContext(ctx, "9", nil)
	if err := pub.Publish("full", msg); !errors.Is(err, context.Canceled) {
		t.Errorf("the context of the message does not bound Publish: %v", err)
	}
	for range 2 {
		if err := pub.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := pub.Publish("orders", msg); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Publish after Close returned %v", err)
	}
	if err := tr.Publish(t.Context(), "orders", []transport.Message{{ID: "1"}}); err != nil {
		t.Errorf("closing the publisher closed the transport: %v", err)
	}
}

// A handler that publishes with the context of its message to a full queue, which it is to empty itself, does not wait.
func TestPublishWithTheContextOfAMessageNeverWaits(t *testing.T) {
	t.Parallel()
	_, pub, sub := ours(t, watermill.SubscriberConfig{})
	messages, err := sub.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("orders", message.NewMessage("0", nil)); err != nil {
		t.Fatal(err)
	}
	first := <-messages
	for range 100 {
		if err := pub.Publish("orders", message.NewMessageWithContext(first.Context(), "x", nil)); err != nil {
			t.Fatal(err)
		}
	}
	first.Ack()
	for range 100 {
		(<-messages).Ack()
	}
}

// flaky fails some calls of a subscription.
type flaky struct {
	transport.Transport
	fail func(what string) error
}

type flakySub struct {
	transport.Subscription
	fail func(what string) error
}

func (f flaky) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	sub, err := f.Transport.Subscribe(ctx, cfg)
	return flakySub{sub, f.fail}, err
}

func (f flakySub) Receive(ctx context.Context, limit int) ([]transport.Delivery, error) {
	if err := f.fail("receive"); err != nil {
		return nil, err
	}
	return f.Subscription.Receive(ctx, limit)
}

func (f flakySub) Settle(ctx context.Context, settlements []transport.Settlement) error {
	if err := f.fail("settle"); err != nil {
		return err
	}
	return f.Subscription.Settle(ctx, settlements)
}

func TestSubscriberOutlastsTrouble(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		inner := memory.New(memory.Config{})
		failures := map[string]int{"receive": 2, "settle": 2}
		tr := flaky{inner, func(what string) error {
			if failures[what]--; failures[what] >= 0 {
				return errors.New(what + " is in trouble")
			}
			return nil
		}}
		var log bytes.Buffer
		sub, err := watermill.NewSubscriber(tr, watermill.SubscriberConfig{
			Group: "billing", RetryDelay: time.Minute, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		messages, err := sub.Subscribe(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		if err := inner.Publish(t.Context(), "orders", []transport.Message{{ID: "1"}}); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		(<-messages).Ack()
		if err := inner.WaitIdle(t.Context()); err != nil {
			t.Error(err)
		}
		if waited := time.Since(begin); waited != 4*time.Minute {
			t.Errorf("it took %s, want a pause of a minute after each failure", waited)
		}
		if err := inner.Close(); err != nil { // the transport ends first
			t.Error(err)
		}
		if _, ok := <-messages; ok {
			t.Error("the channel is open although the transport is closed")
		}
		if err := sub.Close(); err != nil {
			t.Error(err)
		}
		if n := strings.Count(log.String(), "is in trouble"); n != 4 {
			t.Errorf("%d failures were logged, want 4:\n%s", n, log.String())
		}
	})
}

type placed struct{ OrderID string }

// Watermill's CQRS component runs on a transport of ours, and handles what the other side published by its own names.
func TestWatermillCQRS(t *testing.T) {
	t.Parallel()
	tr, pub, sub := ours(t, watermill.SubscriberConfig{})
	router, err := message.NewRouter(message.RouterConfig{CloseTimeout: time.Minute}, nil)
	if err != nil {
		t.Fatal(err)
	}
	router.AddMiddleware(middleware.Recoverer, middleware.CorrelationID, middleware.Retry{MaxRetries: 2}.Middleware)
	marshaler := cqrs.JSONMarshaler{GenerateName: func(any) string { return "orders.placed" }}
	processor, err := cqrs.NewEventProcessorWithConfig(router, cqrs.EventProcessorConfig{
		GenerateSubscribeTopic: func(cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) { return "orders", nil },
		SubscriberConstructor:  func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) { return sub, nil },
		Marshaler:              marshaler,
	})
	if err != nil {
		t.Fatal(err)
	}
	handled := make(chan string, 10)
	tries := 0
	if err := processor.AddHandlers(cqrs.NewEventHandler("placed", func(ctx context.Context, e *placed) error {
		if tries++; tries == 1 {
			panic("the first time")
		}
		handled <- e.OrderID
		return nil
	})); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- router.Run(ctx) }()
	<-router.Running()

	if err := tr.Publish(t.Context(), "orders", []transport.Message{{ID: "1", Name: "orders.placed", Payload: []byte(`{"OrderID":"ours"}`)}}); err != nil {
		t.Fatal(err)
	}
	events, err := cqrs.NewEventBusWithConfig(pub, cqrs.EventBusConfig{
		GeneratePublishTopic: func(cqrs.GenerateEventPublishTopicParams) (string, error) { return "orders", nil }, Marshaler: marshaler,
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := events.Publish(t.Context(), placed{"theirs"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"ours", "theirs"} {
		if got := <-handled; got != want {
			t.Errorf("handled %s, want %s", got, want)
		}
	}
	if err := tr.WaitIdle(t.Context()); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-ran; err != nil {
		t.Error(err)
	}
}
