package rabbitmq_test

import (
	"context"
	"crypto/rand"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func TestMain(m *testing.M) {
	// The tests wait for the broker most of the time. -parallel on the command line has the last word.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	// Watermill's TestReconnect leaves behind a goroutine that reads a channel of its own, which it never closes.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/ThreeDotsLabs/watermill/pubsub/tests.TestReconnect.func2"))
}

// patience is how long a test waits for what must come. The machine may have much else to do.
const patience = 2 * time.Minute

// brokerURL returns the URL of the shared broker.
func brokerURL(t testing.TB) string { t.Helper(); return testservices.RabbitMQ(t) }

// with returns the URL with a query.
func with(t testing.TB, rawURL, query string) string {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = query
	return u.String()
}

// open opens a transport that ends with the test.
func open(t testing.TB, rawURL string) *rabbitmq.Transport {
	t.Helper()
	u, err := url.Parse(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	query := u.Query()
	query.Set("connect_timeout", patience.String())
	tr, err := transport.Open(t.Context(), with(t, rawURL, query.Encode()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	return tr.(*rabbitmq.Transport)
}

// quiet is a logger for tests that expect warnings.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// unique makes a topic of this test alone, and removes what belongs to it when the test ends.
func unique(t testing.TB, groups ...string) string {
	t.Helper()
	topic := "t" + rand.Text()
	at := brokerURL(t)
	t.Cleanup(func() {
		conn := dial(t, at)
		defer conn.Close()
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range groups {
			if _, err := ch.QueueDelete(topic+"_"+g, false, false, false); err != nil {
				t.Error(err)
			}
		}
		if err := ch.ExchangeDelete(topic, false, false); err != nil {
			t.Error(err)
		}
	})
	return topic
}

func dial(t testing.TB, rawURL string) *amqp.Connection {
	t.Helper()
	conn, err := amqp.DialConfig(rawURL, amqp.Config{Locale: "en_US", Dial: amqp.DefaultDial(patience)})
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

func subscribe(t testing.TB, tr transport.Transport, topic, group string) transport.Subscription {
	t.Helper()
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: group})
	if err != nil {
		t.Fatal(err)
	}
	return sub
}

// receive returns n deliveries, or fails after a deadline.
func receive(t testing.TB, sub transport.Subscription, n int) []transport.Delivery {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var all []transport.Delivery
	for len(all) < n {
		got, err := sub.Receive(ctx, n-len(all))
		if err != nil && ctx.Err() != nil {
			t.Fatalf("%d of %d deliveries came: %v", len(all), n, err)
		}
		all = append(all, got...)
	}
	return all
}

func settle(t testing.TB, sub transport.Subscription, outcome transport.Outcome, ds ...transport.Delivery) {
	t.Helper()
	var all []transport.Settlement
	for _, d := range ds {
		all = append(all, transport.Settlement{Tag: d.Tag, Outcome: outcome})
	}
	if err := sub.Settle(t.Context(), all); err != nil {
		t.Fatal(err)
	}
}

func messages(prefix string, n int) []transport.Message {
	msgs := make([]transport.Message, n)
	for i := range msgs {
		msgs[i] = transport.Message{ID: fmt.Sprintf("%s-%d", prefix, i), Name: "test.event", Payload: []byte(`{}`)}
	}
	return msgs
}

func publish(t testing.TB, tr transport.Transport, topic string, msgs ...transport.Message) {
	t.Helper()
	if err := tr.Publish(t.Context(), topic, msgs); err != nil {
		t.Fatal(err)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	m := transport.Message{
		ID: "1", Name: "a.b", Version: 3, Key: "k", Time: time.Now().UTC(), CorrelationID: "c", CausationID: "d",
		ContentType: "text/plain", Metadata: map[string]string{"x": "y", "CC": "z", "x-death": "q", "_watermill_message_uuid": "u"},
		Payload: []byte("payload"), Attempts: 4,
	}
	publish(t, tr, topic, m)
	got := receive(t, sub, 1)[0]
	if got.Attempt != 5 || fmt.Sprint(got.Metadata) != fmt.Sprint(m.Metadata) || !got.Time.Equal(m.Time) {
		t.Errorf("got %+v, want %+v with attempt 5", got, m)
	}
	settle(t, sub, transport.Requeue, got)
	again := receive(t, sub, 1)[0]
	if again.Attempt != 6 {
		t.Errorf("attempt %d after a requeue, want 6", again.Attempt)
	}
	settle(t, sub, transport.Release, again)
	again = receive(t, sub, 1)[0]
	if again.Attempt != 6 {
		t.Errorf("attempt %d after a release, want 6", again.Attempt)
	}
	sub.Close()
	sub = subscribe(t, tr, topic, "g")
	again = receive(t, sub, 1)[0]
	if again.Attempt != 6 {
		t.Errorf("attempt %d after the subscription closed, want 6", again.Attempt)
	}
	settle(t, sub, transport.Ack, again)
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	for _, queue := range []string{"quorum", "classic"} {
		t.Run(queue, func(t *testing.T) {
			t.Parallel()
			tr := open(t, with(t, brokerURL(t), "window=100&queue="+queue))
			topic := unique(t, "g")
			sub := subscribe(t, tr, topic, "g")
			const publishers, each = 8, 300
			errs := make(chan error, publishers)
			for p := range publishers {
				go func() { errs <- tr.Publish(t.Context(), topic, messages(fmt.Sprint(p), each)) }()
			}
			seen := map[string]int{}
			for len(seen) < publishers*each {
				got := receive(t, sub, 1)
				for i, d := range got {
					seen[d.ID]++
					if i%3 == 0 {
						settle(t, sub, transport.Ack, d)
					}
				}
				for i, d := range got {
					if i%3 != 0 {
						settle(t, sub, transport.Ack, d)
					}
				}
			}
			for range publishers {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			for id, n := range seen {
				if n != 1 {
					t.Errorf("%s came %d times", id, n)
				}
			}
		})
	}
}

func TestDelay(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "a", "b")
	subs := map[string]transport.Subscription{"a": subscribe(t, tr, topic, "a"), "b": subscribe(t, tr, topic, "b")}
	// A machine that has much else to do may need more time between them; the first round also declares the ladder.
	for _, unit := range []time.Duration{100 * time.Millisecond, 400 * time.Millisecond, 2 * time.Second} {
		later := func(id string, n time.Duration, group string) transport.Message {
			return transport.Message{ID: id, NotBefore: time.Now().Add(n * unit), TargetGroup: group, Payload: []byte("{}")}
		}
		msgs := []transport.Message{later("3", 15, ""), later("2", 9, "a"), later("1", 1, "")}
		publish(t, tr, topic, msgs...)
		late := time.Until(msgs[2].NotBefore) < 0
		inOrder := true
		for group, want := range map[string][]string{"a": {"1", "2", "3"}, "b": {"1", "3"}} {
			for _, id := range want {
				d := receive(t, subs[group], 1)[0]
				after := time.Since(d.NotBefore)
				t.Logf("%s came %v late to %s", d.ID, after, group)
				if after < 0 || d.Attempt != 1 || d.Metadata != nil || d.ID == "2" && group == "b" {
					t.Errorf("%s got %+v, %v late", group, d, after)
				}
				inOrder = inOrder && d.ID == id
				settle(t, subs[group], transport.Ack, d)
			}
		}
		if inOrder {
			return
		}
		t.Logf("not in the order of their times, by units of %v; published too late: %t", unit, late)
	}
	t.Error("they never came in the order of their times")
}
