package memory_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "orders"

// open makes a transport that ends with the test.
func open(t testing.TB, cfg memory.Config) *memory.Transport {
	t.Helper()
	tr := memory.New(cfg)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func join(t testing.TB, tr transport.Transport, group string) transport.Subscription {
	t.Helper()
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: group})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// batch makes n messages with the IDs prefix-0, prefix-1 and so on.
func batch(prefix string, n int) []transport.Message {
	msgs := make([]transport.Message, n)
	for i := range msgs {
		msgs[i] = transport.Message{ID: fmt.Sprintf("%s-%d", prefix, i)}
	}
	return msgs
}

func publish(t testing.TB, tr transport.Transport, msgs ...transport.Message) {
	t.Helper()
	if err := tr.Publish(t.Context(), topic, msgs); err != nil {
		t.Fatal(err)
	}
}

// receive gets n deliveries.
func receive(t testing.TB, sub transport.Subscription, n int) (got []transport.Delivery) {
	t.Helper()
	for len(got) < n {
		ds, err := sub.Receive(t.Context(), n-len(got))
		if err != nil {
			t.Fatalf("Receive: %v, after %d of %d deliveries", err, len(got), n)
		}
		got = append(got, ds...)
	}
	return got
}

func settle(t testing.TB, sub transport.Subscription, outcome transport.Outcome, ds ...transport.Delivery) {
	t.Helper()
	settlements := make([]transport.Settlement, len(ds))
	for i, d := range ds {
		settlements[i] = transport.Settlement{Tag: d.Tag, Outcome: outcome}
	}
	if err := sub.Settle(t.Context(), settlements); err != nil {
		t.Fatal(err)
	}
}

// drain gets and acknowledges n deliveries.
func drain(t testing.TB, sub transport.Subscription, n int) {
	t.Helper()
	for n > 0 {
		ds := receive(t, sub, min(n, 64))
		settle(t, sub, transport.Ack, ds...)
		n -= len(ds)
	}
}

// nothing ends the test if anything comes within a second, of the bubble's time.
func nothing(t testing.TB, sub transport.Subscription) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if ds, err := sub.Receive(ctx, 10); err == nil {
		t.Fatalf("%s came", ds[0].ID)
	}
}
