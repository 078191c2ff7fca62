package sqlite_test

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, file, query string) transport.Transport {
	t.Helper()
	tr, err := transport.Open(t.Context(), "sqlite:"+file+query)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	return tr
}

func messages(from, to int) []transport.Message {
	var msgs []transport.Message
	for i := from; i < to; i++ {
		msgs = append(msgs, transport.Message{ID: fmt.Sprint(i), Name: "a.b", Payload: []byte(fmt.Sprintf(`{"n":%d}`, i))})
	}
	return msgs
}

func subscribe(t *testing.T, tr transport.Transport, group string) transport.Subscription {
	t.Helper()
	s, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: group})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func receive(t *testing.T, s transport.Subscription, n int) []transport.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var all []transport.Delivery
	for len(all) < n {
		got, err := s.Receive(ctx, n-len(all))
		if err != nil {
			t.Fatalf("after %d of %d: %v", len(all), n, err)
		}
		all = append(all, got...)
	}
	return all
}

func ack(t *testing.T, s transport.Subscription, ds ...transport.Delivery) {
	t.Helper()
	var x []transport.Settlement
	for _, d := range ds {
		x = append(x, transport.Settlement{Tag: d.Tag, Outcome: transport.Ack})
	}
	if err := s.Settle(t.Context(), x); err != nil {
		t.Fatal(err)
	}
}

func ids(ds []transport.Delivery) (out []string) {
	for _, d := range ds {
		out = append(out, fmt.Sprintf("%s/%d", d.ID, d.Attempt))
	}
	return out
}

func TestExactAcksSurviveARestart(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x.db")
	tr := open(t, file, "")
	s := subscribe(t, tr, "billing")
	if err := tr.Publish(t.Context(), "orders", messages(0, 10)); err != nil {
		t.Fatal(err)
	}
	ds := receive(t, s, 10)
	ack(t, s, ds[0], ds[1], ds[3], ds[7])
	if err := s.Settle(t.Context(), []transport.Settlement{{Tag: ds[2].Tag, Outcome: transport.Requeue}}); err != nil {
		t.Fatal(err)
	}
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	tr = open(t, file, "")
	s = subscribe(t, tr, "billing")
	got := fmt.Sprint(ids(receive(t, s, 6)))
	if want := "[2/2 4/1 5/1 6/1 8/1 9/1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
