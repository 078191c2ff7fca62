package watermill_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/watermill"
)

func TestSubscribeErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("no")
	for name, test := range map[string]struct {
		subscriber func(string) (message.Subscriber, error)
		want       error
	}{
		"made": {func(string) (message.Subscriber, error) { return nil, cause }, cause},
		"subscribed": {func(string) (message.Subscriber, error) {
			return &fake{subscribe: func(context.Context, string) (<-chan *message.Message, error) { return nil, cause }}, nil
		}, cause},
		"nil": {func(string) (message.Subscriber, error) { return nil, nil }, nil},
		"hangs": {func(string) (message.Subscriber, error) {
			return &fake{subscribe: func(ctx context.Context, _ string) (<-chan *message.Message, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}}, nil
		}, context.DeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := open(t, &fake{}, func(cfg *watermill.Config) { cfg.Subscriber = test.subscriber })
				for range 2 {
					ctx, cancel := context.WithTimeout(t.Context(), time.Second)
					_, err := tr.Subscribe(ctx, transport.SubscribeConfig{Topic: "orders", Group: "billing"})
					cancel()
					if err == nil || test.want != nil && !errors.Is(err, test.want) || !strings.Contains(err.Error(), "billing") {
						t.Errorf("got %v, want %v of group billing", err, test.want)
					}
				}
			})
		})
	}
}

// A subscription that Watermill gives after nobody waits for it any more is ended, and what it brings is given back.
func TestLateSubscriptionIsEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn, late := make(chan struct{}), message.NewMessage("1", nil)
		f := &fake{subscribe: func(ctx context.Context, _ string) (<-chan *message.Message, error) {
			<-goOn
			out := make(chan *message.Message, 1)
			out <- late
			context.AfterFunc(ctx, func() { close(out) })
			return out, nil
		}}
		tr := open(t, f)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := tr.Subscribe(ctx, transport.SubscribeConfig{Topic: "orders", Group: "billing"}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(goOn)
		<-late.Nacked()
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
}

// When Watermill ends a subscription by itself, as after a lost connection, Receive begins another.
func TestReceiveRecovers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cause, calls := errors.New("not yet"), 0
		f := &fake{subscribe: func(ctx context.Context, _ string) (<-chan *message.Message, error) {
			calls++
			out := make(chan *message.Message, 1)
			switch calls {
			case 1: // ends at once
				close(out)
			case 2, 3:
				return nil, cause
			default:
				out <- message.NewMessage("1", nil)
				context.AfterFunc(ctx, func() { close(out) })
			}
			return out, nil
		}}
		tr := open(t, f)
		sub, other := join(t, tr), join(t, tr)
		for range 2 {
			if _, err := sub.Receive(t.Context(), 1); !errors.Is(err, cause) {
				t.Errorf("Receive returned %v, want the cause", err)
			}
		}
		d := receive(t, sub)
		settle(t, sub, d, transport.Ack)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := other.Receive(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the other one: %v", err)
		}
		if calls != 4 {
			t.Errorf("subscribed %d times, want 4: the two share one", calls)
		}
	})
}

func TestForeignMessages(t *testing.T) {
	t.Parallel()
	f := &fake{}
	in := feed(f)
	sub := join(t, open(t, f))
	for _, msg := range []*message.Message{
		message.NewMessage("7", []byte("plain")),
		{UUID: "8", Payload: []byte("no metadata map")},
	} {
		in <- msg
		d := receive(t, sub)
		if d.ID != msg.UUID || string(d.Payload) != string(msg.Payload) || d.Name != "" || d.Metadata != nil || d.Attempt != 1 {
			t.Errorf("got %+v", *d.Message)
		}
		settle(t, sub, d, transport.Ack)
	}
}

// Messages without UUID get IDs of their own, also equal ones, and their attempts are counted nevertheless.
func TestMessagesWithoutUUID(t *testing.T) {
	t.Parallel()
	f := &fake{}
	in := feed(f)
	sub := join(t, open(t, f))
	seen := map[string]bool{}
	for attempt := 1; attempt <= 3; attempt++ {
		msg := message.NewMessage("", []byte("same"))
		msg.Metadata.Set("a", "b")
		in <- msg
		d := receive(t, sub)
		if d.ID == "" || seen[d.ID] || d.Attempt != attempt {
			t.Errorf("delivery %d has ID %q, attempt %d", attempt, d.ID, d.Attempt)
		}
		seen[d.ID] = true
		settle(t, sub, d, transport.Requeue)
		<-msg.Nacked()
	}
}

func TestOutcomes(t *testing.T) {
	t.Parallel()
	f := &fake{}
	in := feed(f)
	sub := join(t, open(t, f))
	send := func(outcome transport.Outcome) (attempt int, msg *message.Message) {
		msg = message.NewMessage("1", nil)
		in <- msg
		d := receive(t, sub)
		settle(t, sub, d, outcome)
		return d.Attempt, msg
	}
	for i, step := range []struct {
		outcome transport.Outcome
		attempt int
	}{
		{transport.Release, 1}, {transport.Requeue, 1}, {transport.Release, 2}, {transport.Release, 2},
		{transport.Requeue, 2}, {transport.Ack, 3}, {transport.Requeue, 1}, {transport.Ack, 2},
	} {
		attempt, msg := send(step.outcome)
		if attempt != step.attempt {
			t.Errorf("step %d: attempt %d, want %d", i, attempt, step.attempt)
		}
		answered := msg.Nacked()
		if step.outcome == transport.Ack {
			answered = msg.Acked()
		}
		select {
		case <-answered:
		default:
			t.Errorf("step %d: %v did not reach Watermill", i, step.outcome)
		}
	}
}

// A message that comes again although it was not nacked here, as after a lost connection, counts.
func TestRedeliveryByThePubSubCounts(t *testing.T) {
	t.Parallel()
	f := &fake{}
	in := feed(f)
	sub := join(t, open(t, f))
	for attempt := 1; attempt <= 3; attempt++ {
		in <- message.NewMessage("1", nil)
		if d := receive(t, sub); d.Attempt != attempt {
			t.Errorf("attempt %d, want %d", d.Attempt, attempt)
		}
	}
}

func TestMessagesForOtherGroupsArePassedOver(t *testing.T) {
	t.Parallel()
	f := &fake{}
	in := feed(f)
	sub := join(t, open(t, f))
	other, mine := message.NewMessage("1", nil), message.NewMessage("2", nil)
	other.Metadata.Set("postbus_target_group", "shipping")
	mine.Metadata.Set("postbus_target_group", "billing")
	go func() { in <- other; in <- mine }()
	if d := receive(t, sub); d.ID != "2" {
		t.Errorf("%s came, which is for group %q", d.ID, d.TargetGroup)
	}
	<-other.Acked()
}

// GoChannel without us and with us understand each other.
func TestPlainWatermillOnTheSameTopics(t *testing.T) {
	t.Parallel()
	pubsub := gochannel.NewGoChannel(gochannel.Config{}, wm.NopLogger{})
	tr, err := watermill.New(watermill.Config{Publisher: pubsub, Subscriber: func(string) (message.Subscriber, error) { return pubsub, nil }})
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	plain, err := pubsub.Subscribe(t.Context(), "orders")
	if err != nil {
		t.Fatal(err)
	}
	sub := join(t, tr)
	if err := tr.Publish(t.Context(), "orders", []transport.Message{{ID: "1", Name: "orders.placed"}}); err != nil {
		t.Fatal(err)
	}
	msg := <-plain
	if msg.UUID != "1" || msg.Metadata.Get("name") != "orders.placed" {
		t.Errorf("plain Watermill got %q %v", msg.UUID, msg.Metadata)
	}
	msg.Ack()
	settle(t, sub, receive(t, sub), transport.Ack)
	msg = message.NewMessage("2", nil)
	msg.Metadata.Set("name", "orders.paid")
	if err := pubsub.Publish("orders", msg); err != nil {
		t.Fatal(err)
	}
	d := receive(t, sub)
	if d.ID != "2" || d.Name != "orders.paid" {
		t.Errorf("we got %+v", *d.Message)
	}
	settle(t, sub, d, transport.Ack)
	(<-plain).Ack()
}
