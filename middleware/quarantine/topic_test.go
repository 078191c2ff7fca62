package quarantine_test

import (
	"errors"
	"reflect"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
)

var _ middleware.Quarantine = (*quarantine.Topic)(nil)

func TestATopicKeepsMessagesUntilTheyAreRead(t *testing.T) {
	t.Parallel()
	tr := inMemory(t)
	q, err := quarantine.NewTopic(t.Context(), tr, "", "")
	if err != nil {
		t.Fatal(err)
	}
	before := time.Now().Truncate(time.Millisecond)
	cause := errors.New("bank\x00 \xff closed")
	if err := q.Put(t.Context(), bus.NewDelivery(message("m1"), "orders", "billing", 3), cause); err != nil {
		t.Fatal(err)
	}
	// It was put before anybody read.
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: quarantine.DefaultTopic, Group: quarantine.DefaultTopicGroup})
	if err != nil {
		t.Fatal(err)
	}
	defer sub.Close()
	got, err := sub.Receive(t.Context(), 10)
	if err != nil || len(got) != 1 {
		t.Fatal(got, err)
	}
	k, err := quarantine.ReadTopic(got[0].Message)
	if err != nil {
		t.Fatal(err)
	}
	want := *message("m1")
	want.TargetGroup = "billing"
	if !reflect.DeepEqual(k.Message, want) {
		t.Errorf("got %+v, want %+v", k.Message, want)
	}
	if k.Topic != "orders" || k.Group != "billing" || k.Error != "bank\uFFFD \uFFFD closed" || k.Attempts != 3 || k.Time.Before(before) || k.Fingerprint == "" {
		t.Errorf("got %+v", k)
	}
	if _, err := quarantine.ReadTopic(message("m2")); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("got %v, want ErrInvalid", err)
	}
}
