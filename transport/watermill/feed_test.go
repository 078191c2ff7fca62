package watermill

import (
	"context"
	"errors"
	"testing"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/transport"
)

// ending is a Pub/Sub that ends each subscription by itself, at once.
type ending struct {
	message.Publisher
	subscribed int
}

func (e *ending) Subscribe(context.Context, string) (<-chan *message.Message, error) {
	e.subscribed++
	ended := make(chan *message.Message)
	close(ended)
	return ended, nil
}

func (e *ending) Close() error { return nil }

// A Receive that finds the subscription of Watermill ended, and its own closed before it can renew it, renews nothing: the
// new one would take messages that nobody receives.
func TestNothingIsRenewedAfterTheLastHasLeft(t *testing.T) {
	t.Parallel()
	e := &ending{}
	tr, err := New(Config{Publisher: e, Subscriber: func(string) (message.Subscriber, error) { return e, nil }, KeepOpen: true})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "billing"})
	if err != nil {
		t.Fatal(err)
	}
	s := sub.(*subscription)
	old := s.messages
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.feed.renew(t.Context(), old); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("renew after the last has left returned %v", err)
	}
	if e.subscribed != 1 {
		t.Errorf("subscribed %d times", e.subscribed)
	}
	if err := tr.Close(); err != nil {
		t.Error(err)
	}
}
