package watermill_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/watermill"
)

// ours makes a Watermill Pub/Sub of the in-process transport.
func ours(t *testing.T, cfg watermill.SubscriberConfig) (*memory.Transport, *watermill.Publisher, *watermill.Subscriber) {
	t.Helper()
	tr := memory.New(memory.Config{Capacity: 8})
	if cfg.Group == "" {
		cfg.Group = "billing"
	}
	sub, err := watermill.NewSubscriber(tr, cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(sub.Close(), tr.Close()); err != nil {
			t.Error(err)
		}
	})
	return tr, watermill.NewPublisher(tr), sub
}

func TestNewSubscriberRefuses(t *testing.T) {
	t.Parallel()
	for _, cfg := range []watermill.SubscriberConfig{
		{}, {Group: "a\n"}, {Group: "g", InFlight: -1}, {Group: "g", RetryDelay: -1},
	} {
		if _, err := watermill.NewSubscriber(nil, cfg); !errors.Is(err, transport.ErrInvalid) {
			t.Errorf("%+v: %v", cfg, err)
		}
	}
}

// What is an envelope here is metadata there, and the other way round.
func TestSubscriberMapsTheEnvelope(t *testing.T) {
	t.Parallel()
	tr, pub, sub := ours(t, watermill.SubscriberConfig{})
	messages, err := sub.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)
	if err := tr.Publish(t.Context(), "orders", []transport.Message{{
		ID: "1", Name: "orders.placed", Version: 2, Key: "k", Time: at, CorrelationID: "c", Metadata: map[string]string{"a": "b"},
		TargetGroup: "billing", NotBefore: at, Payload: []byte("{}"),
	}}); err != nil {
		t.Fatal(err)
	}
	msg := <-messages
	for key, want := range map[string]string{
		"name": "orders.placed", "postbus_version": "2", "postbus_key": "k", "postbus_time": "2026-07-01T12:00:00Z",
		"correlation_id": "c", "a": "b", "postbus_target_group": "", "postbus_not_before": "",
	} {
		if got := msg.Metadata.Get(key); got != want {
			t.Errorf("metadata %s is %q, want %q", key, got, want)
		}
	}
	if msg.UUID != "1" || string(msg.Payload) != "{}" {
		t.Errorf("got %q %s", msg.UUID, msg.Payload)
	}
	msg.Ack()

	other, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "forwarded", Group: "shipping"})
	if err != nil {
		t.Fatal(err)
	}
	foreign := message.NewMessage("", []byte("x"))
	foreign.Metadata.Set("b", "c")
	if err := pub.Publish("forwarded", msg.Copy(), foreign); err != nil {
		t.Fatal(err)
	}
	ds, err := other.Receive(t.Context(), 2)
	if err != nil || len(ds) != 2 {
		t.Fatal(ds, err)
	}
	if m := ds[0].Message; m.ID != "1" || m.Name != "orders.placed" || m.Version != 2 || m.Key != "k" || !m.Time.Equal(at) ||
		m.CorrelationID != "c" || len(m.Metadata) != 1 || m.TargetGroup != "" || !m.NotBefore.IsZero() {
		t.Errorf("forwarded, it is %+v", *m)
	}
	if m := ds[1].Message; m.ID == "" || m.Metadata["b"] != "c" || string(m.Payload) != "x" {
		t.Errorf("a foreign message without UUID is %+v", *m)
	}
}

func TestPublisherHonoursDelayAndTarget(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, pub, sub := ours(t, watermill.SubscriberConfig{})
		messages, err := sub.Subscribe(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		later, elsewhere := message.NewMessage("later", nil), message.NewMessage("elsewhere", nil)
		later.Metadata.Set("postbus_not_before", begin.Add(time.Hour).Format(time.RFC3339))
		elsewhere.Metadata.Set("postbus_target_group", "shipping")
		if err := pub.Publish("orders", later, elsewhere); err != nil {
			t.Fatal(err)
		}
		msg := <-messages
		if msg.UUID != "later" || time.Since(begin) != time.Hour {
			t.Errorf("%s came after %s", msg.UUID, time.Since(begin))
		}
		msg.Ack()
	})
}

func TestNackComesAgainFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, pub, sub := ours(t, watermill.SubscriberConfig{})
		messages, err := sub.Subscribe(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		if err := pub.Publish("orders", message.NewMessage("1", nil), message.NewMessage("2", nil)); err != nil {
			t.Fatal(err)
		}
		for attempt := 1; attempt <= 3; attempt++ {
			msg := <-messages
			if got := watermill.Attempt(msg.Context()); msg.UUID != "1" || got != attempt {
				t.Errorf("%s came with attempt %d, want 1 with attempt %d", msg.UUID, got, attempt)
			}
			synctest.Wait()
			select {
			case <-messages:
				t.Error("another message came before the first was settled")
			default:
			}
			if attempt < 3 {
				msg.Nack()
			} else {
				msg.Ack()
			}
			<-msg.Context().Done()
		}
		msg := <-messages
		if msg.UUID != "2" {
			t.Errorf("%s came", msg.UUID)
		}
		msg.Ack()
	})
	if watermill.Attempt(t.Context()) != 0 {
		t.Error("a context of no message has an attempt")
	}
}

func TestSeveralInFlight(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, pub, sub := ours(t, watermill.SubscriberConfig{InFlight: 3})
		messages, err := sub.Subscribe(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		for _, uuid := range []string{"1", "2", "3", "4"} {
			if err := pub.Publish("orders", message.NewMessage(uuid, nil)); err != nil {
				t.Fatal(err)
			}
		}
		one, two, three := <-messages, <-messages, <-messages
		synctest.Wait()
		select {
		case <-messages:
			t.Error("a fourth message came, InFlight is 3")
		default:
		}
		two.Ack()
		four := <-messages
		for _, msg := range []*message.Message{one, three, four} {
			msg.Ack()
		}
		if err := tr.WaitIdle(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// What was acknowledged at the time of Close is settled; what was not comes again; the channel is closed.
func TestCloseOfASubscriber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, pub, sub := ours(t, watermill.SubscriberConfig{InFlight: 5})
		messages, err := sub.Subscribe(t.Context(), "orders")
		if err != nil {
			t.Fatal(err)
		}
		for _, uuid := range []string{"acked", "nacked", "open", "unread"} {
			if err := pub.Publish("orders", message.NewMessage(uuid, nil)); err != nil {
				t.Fatal(err)
			}
		}
		acked, nacked, open := <-messages, <-messages, <-messages
		acked.Ack()
		nacked.Nack()
		for range 2 {
			if err := sub.Close(); err != nil {
				t.Fatal(err)
			}
		}
		if _, ok := <-messages; ok {
			t.Error("the channel is open after Close")
		}
		<-open.Context().Done()
		open.Ack() // too late
		if _, err := sub.Subscribe(t.Context(), "orders"); !errors.Is(err, transport.ErrClosed) {
			t.Errorf("Subscribe after Close returned %v", err)
		}
		next, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "billing"})
		if err != nil {
			t.Fatal(err)
		}
		ds, err := next.Receive(t.Context(), 10)
		for len(ds) < 3 && err == nil {
			var more []transport.Delivery
			more, err = next.Receive(t.Context(), 10)
			ds = append(ds, more...)
		}
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"nacked", "open", "unread"} {
			if ds[i].ID != want {
				t.Errorf("%s came, want %s", ds[i].ID, want)
			}
		}
		if ds[0].Attempt != 2 || ds[1].Attempt != 1 {
			t.Errorf("the nacked one has attempt %d, the open one %d; want 2 and 1", ds[0].Attempt, ds[1].Attempt)
		}
	})
}

func TestTheContextEndsASubscription(t *testing.T) {
	t.Parallel()
	type key struct{}
	_, pub, sub := ours(t, watermill.SubscriberConfig{})
	ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "value"))
	messages, err := sub.Subscribe(ctx, "orders")
	if err != nil {
		t.Fatal(err)
	}
	if err := pub.Publish("orders", message.NewMessage("1", nil)); err != nil {
		t.Fatal(err)
	}
	msg := <-messages
	if msg.Context().Value(key{}) != "value" {
		t.Error("the context of the message is not of the one given to Subscribe")
	}
	cancel()
	<-msg.Context().Done()
	if _, ok := <-messages; ok {
		t.Error("the channel is open after the context ended")
	}
	messages, err = sub.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	msg = <-messages
	if msg.UUID != "1" {
		t.Errorf("%s came", msg.UUID)
	}
	msg.Ack()
}
