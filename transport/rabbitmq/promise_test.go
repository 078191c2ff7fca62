package rabbitmq_test

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func TestCapabilities(t *testing.T) {
	t.Parallel()
	broker := newFake(t, 0)
	for _, queue := range []rabbitmq.QueueType{rabbitmq.Quorum, rabbitmq.Classic} {
		for single, order := range map[bool]transport.Order{false: transport.OrderNone, true: transport.OrderPerTopic} {
			tr := openQuiet(t, broker.url, func(c *rabbitmq.Config) { c.Queue, c.SingleActiveConsumer, c.MaxPayload = queue, single, 1000 })
			want := transport.Capabilities{Durable: true, Order: order, Delay: true, Target: true, MaxPayload: 1000}
			if got := tr.Capabilities(); got != want {
				t.Errorf("%s, one active consumer: %t: %+v, want %+v", queue, single, got, want)
			}
		}
	}
}

// adminChannel returns a channel beside the transport. It is closed by the broker's first refusal.
func adminChannel(t testing.TB) *amqp.Channel {
	t.Helper()
	conn := dial(t, brokerURL(t))
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

// TestDeliveryLimitIsOutOfReach: the broker must drop nothing that nobody has put into quarantine.
func TestDeliveryLimitIsOutOfReach(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "g")
	subscribe(t, tr, topic, "g")
	_, err := adminChannel(t).QueueDeclare(topic+"_g", true, false, false, false, amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": 20})
	if err == nil || !strings.Contains(err.Error(), fmt.Sprint("current is '", 1<<30)) {
		t.Errorf("the queue has another delivery limit: %v", err)
	}
}

// TestNackedMessages publishes to a topic that a queue of somebody else's has joined, which is full and says so.
func TestNackedMessages(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "full")
	ch := adminChannel(t)
	if _, err := ch.QueueDeclare(topic+"_full", true, false, false, false, amqp.Table{"x-max-length": 1, "x-overflow": "reject-publish"}); err != nil {
		t.Fatal(err)
	}
	publish(t, tr, topic, messages("nowhere", 1)...) // makes the exchange
	if err := ch.QueueBind(topic+"_full", "", topic, false, nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the queue is full", func() bool {
		if err := tr.Publish(t.Context(), topic, messages("fills", 1)); err != nil && !errors.Is(err, rabbitmq.ErrNacked) {
			t.Fatal(err)
		}
		q, err := ch.QueueDeclarePassive(topic+"_full", true, false, false, false, nil)
		return err == nil && q.Messages == 1
	})
	msgs := messages("m", 3)
	msgs[1].TargetGroup = "nobody" // reaches no queue, which is no error unless asked for
	err := tr.Publish(t.Context(), topic, msgs)
	var partial *transport.PublishError
	if !errors.As(err, &partial) || !errors.Is(partial.Errs[0], rabbitmq.ErrNacked) || partial.Errs[1] != nil || !errors.Is(partial.Errs[2], rabbitmq.ErrNacked) {
		t.Errorf("a queue that rejects: %v", err)
	}
}

// TestDeadConnectionIsNoticed: the broker falls silent, and the connection stays open.
func TestDeadConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, func(c *rabbitmq.Config) { c.Heartbeat = 3 * time.Second })
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	p.set(func() { p.mute = true })
	eventually(t, "the silence is noticed", func() bool {
		s := tr.Status()
		return s.Publish.State == rabbitmq.Down && s.Consume.State == rabbitmq.Down && s.Publish.Err != nil
	})
	p.set(func() { p.mute = false })
	stubborn(t, tr, topic, messages("m", 1)...)
	drain(t, sub, messages("m", 1)...)
}

func TestForeignExchange(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t)
	if err := adminChannel(t).ExchangeDeclare(topic, "direct", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	_, subscribing := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "g"})
	publishing := tr.Publish(t.Context(), topic, messages("m", 1))
	for what, err := range map[string]error{"Subscribe": subscribing, "Publish": publishing} {
		want := fmt.Sprintf("exchange %q: type is direct there and fanout here", topic)
		if !errors.Is(err, rabbitmq.ErrMismatch) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want a text with %q", what, err, want)
		}
	}
	adminChannel(t).QueueDelete(topic+"_g", false, false, false)
}

// testLongDelays needs a broker that does not keep what is for later.
func testLongDelays(t *testing.T, tr *rabbitmq.Transport, topic string) {
	for days, want := range map[time.Duration]error{60: nil, 740: nil, 800: transport.ErrUnsupported, math.MaxInt64 / (24 * time.Hour): transport.ErrUnsupported} {
		m := messages("later", 1)
		m[0].NotBefore = time.Now().Add(days * 24 * time.Hour)
		if err := tr.Publish(t.Context(), topic, m); !errors.Is(err, want) {
			t.Errorf("due in %d days: %v, want %v", days, err, want)
		}
	}
}
