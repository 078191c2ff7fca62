package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/watermill"
)

// fake is a Watermill Pub/Sub whose every answer is the test's.
type fake struct {
	publish   func(topic string, msgs ...*message.Message) error
	subscribe func(ctx context.Context, topic string) (<-chan *message.Message, error)
	close     func() error
}

func (f *fake) Publish(topic string, msgs ...*message.Message) error {
	return f.publish(topic, msgs...)
}
func (f *fake) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	return f.subscribe(ctx, topic)
}

func (f *fake) Close() error {
	if f.close == nil {
		return nil
	}
	return f.close()
}

// open makes a transport of a fake, without subscriptions unless it has some.
func open(t *testing.T, f *fake, change ...func(*watermill.Config)) *watermill.Transport {
	t.Helper()
	cfg := watermill.Config{Publisher: f, Subscriber: func(string) (message.Subscriber, error) { return f, nil }}
	for _, c := range change {
		c(&cfg)
	}
	tr, err := watermill.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

// feed lets a fake deliver what is sent to the returned channel, until the subscription's context ends.
func feed(f *fake) chan<- *message.Message {
	in := make(chan *message.Message)
	f.subscribe = func(ctx context.Context, _ string) (<-chan *message.Message, error) {
		out := make(chan *message.Message)
		go func() {
			defer close(out)
			for {
				select {
				case msg := <-in:
					select {
					case out <- msg:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
		return out, nil
	}
	return in
}

func join(t *testing.T, tr transport.Transport) transport.Subscription {
	t.Helper()
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

func receive(t *testing.T, sub transport.Subscription) transport.Delivery {
	t.Helper()
	ds, err := sub.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	return ds[0]
}

func settle(t *testing.T, sub transport.Subscription, d transport.Delivery, outcome transport.Outcome) {
	t.Helper()
	if err := sub.Settle(t.Context(), []transport.Settlement{{Tag: d.Tag, Outcome: outcome}}); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	_, err := watermill.New(watermill.Config{MaxUUID: 20, Capabilities: transport.Capabilities{
		Delay: true, Target: true, Replay: true, Transactional: true, Values: true, Durable: true, Order: transport.OrderPerTopic,
	}})
	if err == nil {
		t.Fatal("it was accepted")
	}
	for _, want := range []string{"Publisher", "Subscriber", "MaxUUID 20", `"delay"`, `"target"`, `"replay"`, `"transactional"`, `"values"`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %s: %v", want, err)
		}
	}
	for _, not := range []string{"durable", "order"} {
		if strings.Contains(err.Error(), not) {
			t.Errorf("the error says %s: %v", not, err)
		}
	}
}

func TestPublishMapsTheEnvelope(t *testing.T) {
	t.Parallel()
	type contextKey struct{}
	var got []*message.Message
	tr := open(t, &fake{publish: func(topic string, msgs ...*message.Message) error {
		if topic != "orders" {
			t.Errorf("topic %q", topic)
		}
		got = append(got, msgs...)
		return nil
	}}, func(cfg *watermill.Config) { cfg.MaxUUID = 36 })
	ctx := context.WithValue(t.Context(), contextKey{}, "value")
	long := strings.Repeat("x", 50)
	if err := tr.Publish(ctx, "orders", []transport.Message{
		{ID: "1", Name: "orders.placed", CorrelationID: "c", Key: "k", Metadata: map[string]string{"name": "spoof"}, Payload: []byte("{}")},
		{ID: long},
	}); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 {
		t.Fatalf("%d messages were published", len(got))
	}
	m := got[0]
	if m.UUID != "1" || string(m.Payload) != "{}" || m.Context().Value(contextKey{}) != "value" ||
		fmt.Sprint(m.Metadata) != "map[correlation_id:c name:orders.placed postbus_key:k postbus_meta_name:spoof]" {
		t.Errorf("got %q %v %s", m.UUID, m.Metadata, m.Payload)
	}
	if m := got[1]; len(m.UUID) != 36 || m.Metadata.Get("postbus_id") != long {
		t.Errorf("a long ID became UUID %q and %v", m.UUID, m.Metadata)
	}
}

func TestPublishErrors(t *testing.T) {
	t.Parallel()
	cause := errors.New("broker says no")
	tr := open(t, &fake{publish: func(string, ...*message.Message) error { return cause }})
	good, bad := transport.Message{ID: "1"}, transport.Message{}
	err := tr.Publish(t.Context(), "orders", []transport.Message{good})
	if !errors.Is(err, cause) || !errors.Is(err, transport.ErrOutcomeUnknown) || !strings.Contains(err.Error(), `"orders"`) {
		t.Errorf("got %v, want the cause, and that the outcome is unknown", err)
	}
	err = tr.Publish(t.Context(), "orders", []transport.Message{good, bad, good})
	partial, ok := errors.AsType[*transport.PublishError](err)
	if !ok || len(partial.Errs) != 3 {
		t.Fatalf("got %v, want a PublishError of all three", err)
	}
	for i, want := range []error{cause, transport.ErrInvalid, cause} {
		if !errors.Is(partial.Errs[i], want) {
			t.Errorf("message %d: %v, want %v", i, partial.Errs[i], want)
		}
	}
}

// A publisher that ignores its context does not hold up ours, and is waited for at Close.
func TestPublishDoesNotWaitForThoseWhoIgnoreTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		tr := open(t, &fake{publish: func(string, ...*message.Message) error { <-goOn; return nil }})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := tr.Publish(ctx, "orders", []transport.Message{{ID: "1"}})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, transport.ErrOutcomeUnknown) {
			t.Errorf("got %v, want the error of the context, and that the outcome is unknown", err)
		}
		closed := make(chan error, 1)
		go func() { closed <- tr.Close() }()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Fatalf("Close returned (%v) while a publisher is under way", err)
		default:
		}
		close(goOn)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	})
}

func TestCloseIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		goOn := make(chan struct{})
		f := &fake{close: func() error { <-goOn; return nil }}
		feed(f)
		tr := open(t, f)
		join(t, tr)
		begin := time.Now()
		err := tr.Close()
		if err == nil || time.Since(begin) > 10*time.Second {
			t.Errorf("Close with a Pub/Sub that hangs returned %v after %s", err, time.Since(begin))
		}
		if err := tr.Close(); err != nil {
			t.Errorf("the second Close: %v", err)
		}
		close(goOn)
	})
}

func TestWhoIsClosed(t *testing.T) {
	t.Parallel()
	cause := errors.New("did not close")
	for _, keep := range []bool{false, true} {
		var mu sync.Mutex
		closed := 0
		f := &fake{close: func() error {
			mu.Lock()
			defer mu.Unlock()
			closed++
			return cause
		}}
		feed(f)
		tr := open(t, f, func(cfg *watermill.Config) { cfg.KeepOpen = keep })
		join(t, tr)
		join(t, tr)
		err := tr.Close()
		if want := map[bool]int{false: 2, true: 0}[keep]; closed != want { // one subscriber and the publisher
			t.Errorf("KeepOpen %t: closed %d times, want %d", keep, closed, want)
		}
		if errors.Is(err, cause) == keep {
			t.Errorf("KeepOpen %t: Close returned %v", keep, err)
		}
	}
}
