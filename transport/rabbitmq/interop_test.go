package rabbitmq_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	wamqp "github.com/ThreeDotsLabs/watermill-amqp/v3/pkg/amqp"
	"github.com/ThreeDotsLabs/watermill/message"
	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func watermillConfig(t testing.TB, group string) wamqp.Config {
	return wamqp.NewDurablePubSubConfig(brokerURL(t), wamqp.GenerateQueueNameTopicNameWithSuffix(group))
}

func TestPlainWatermillPublishes(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	pub, err := wamqp.NewPublisher(watermillConfig(t, "g"), watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	defer pub.Close()
	msg := message.NewMessage("some-uuid", []byte(`{"a":1}`))
	msg.Metadata.Set("name", "orders.placed")
	msg.Metadata.Set("k", "v")
	if err := pub.Publish(topic, msg); err != nil {
		t.Fatal(err)
	}
	d := receive(t, sub, 1)[0]
	if d.ID != "some-uuid" || d.Name != "orders.placed" || d.Metadata["k"] != "v" || len(d.Metadata) != 1 || string(d.Payload) != `{"a":1}` || d.Attempt != 1 {
		t.Errorf("got %+v", d)
	}
	settle(t, sub, transport.Ack, d)
}

func TestPlainWatermillConsumes(t *testing.T) {
	t.Parallel()
	tr := open(t, with(t, brokerURL(t), "queue=classic"))
	topic := unique(t, "theirs")
	// Watermill declares the queue; a message for it alone reaches it as well.
	theirs, err := wamqp.NewSubscriber(watermillConfig(t, "theirs"), watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	got, err := theirs.Subscribe(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	m := transport.Message{
		ID: "1", Name: "orders.placed", Key: "k", Time: time.Now(), CorrelationID: "c", ContentType: "application/json",
		Metadata: map[string]string{"a": "b"}, Payload: []byte(`{}`),
	}
	alone := m
	alone.ID, alone.TargetGroup = "2", "theirs"
	publish(t, tr, topic, m, alone)
	for _, want := range []string{"1", "2"} {
		select {
		case msg := <-got:
			if msg.UUID != want || msg.Metadata.Get("a") != "b" || msg.Metadata.Get("name") != "orders.placed" ||
				msg.Metadata.Get("correlation_id") != "c" || string(msg.Payload) != `{}` {
				t.Errorf("got %s %v, want %s", msg.UUID, msg.Metadata, want)
			}
			msg.Ack()
		case <-time.After(patience):
			t.Fatalf("%s did not come", want)
		}
	}
}

// TestDelayedReachesForeignQueues reads with amqp091-go, for watermill-amqp's marshaler refuses the x-death header.
func TestDelayedReachesForeignQueues(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "theirs")
	theirs, err := wamqp.NewSubscriber(watermillConfig(t, "theirs"), watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := theirs.SubscribeInitialize(topic); err != nil {
		t.Fatal(err)
	}
	conn := dial(t, brokerURL(t))
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ch.Consume(topic+"_theirs", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, tr, topic,
		transport.Message{ID: "1", NotBefore: time.Now().Add(100 * time.Millisecond)},
		transport.Message{ID: "2", NotBefore: time.Now().Add(400 * time.Millisecond), TargetGroup: "theirs"})
	for came := map[string]bool{}; len(came) < 2; {
		select {
		case d := <-got:
			if (d.MessageId != "1" && d.MessageId != "2") || came[d.MessageId] {
				t.Errorf("%s came", d.MessageId)
			}
			came[d.MessageId] = true
		case <-time.After(patience):
			t.Fatalf("only %v came", came)
		}
	}
}

// TestQuorumQueueOfWatermill joins a quorum queue that plain Watermill declared.
func TestQuorumQueueOfWatermill(t *testing.T) {
	t.Parallel()
	topic := unique(t, "g")
	cfg := watermillConfig(t, "g")
	cfg.Queue.Arguments = amqp.Table{"x-queue-type": "quorum"}
	theirs, err := wamqp.NewSubscriber(cfg, watermill.NopLogger{})
	if err != nil {
		t.Fatal(err)
	}
	defer theirs.Close()
	if err := theirs.SubscribeInitialize(topic); err != nil {
		t.Fatal(err)
	}
	tr := open(t, brokerURL(t))
	sub := subscribe(t, tr, topic, "g")
	publish(t, tr, topic, messages("m", 1)...)
	settle(t, sub, transport.Ack, receive(t, sub, 1)...)
}

func TestMismatchSaysHow(t *testing.T) {
	t.Parallel()
	topic := unique(t, "g")
	classic := open(t, with(t, brokerURL(t), "queue=classic"))
	subscribe(t, classic, topic, "g").Close()
	for query, want := range map[string]string{
		"queue=quorum": "queue type is classic there and quorum here; open the transport with ?queue=classic to join it",
		"queue=classic&single-active-consumer=true": "x-single-active-consumer is none there and true here; open the transport with ?single-active-consumer=false",
	} {
		tr := open(t, with(t, brokerURL(t), query))
		_, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "g"})
		if !errors.Is(err, rabbitmq.ErrMismatch) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want a text with %q", query, err, want)
		}
	}
}

func TestForeignMessage(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	conn := dial(t, brokerURL(t))
	defer conn.Close()
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	put := func(p amqp.Publishing) transport.Delivery {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		if err := ch.PublishWithContext(ctx, topic, "", false, false, p); err != nil {
			t.Fatal(err)
		}
		return receive(t, sub, 1)[0]
	}
	headers := amqp.Table{
		"bool": true, "byte": byte(200), "int8": int8(-3), "int16": int16(-300), "int32": int32(70000), "int64": int64(1) << 40,
		"float32": float32(0.5), "float64": 2.25, "decimal": amqp.Decimal{Scale: 2, Value: 12345}, "time": at, "void": nil,
		"bytes": []byte("text"), "raw": []byte{0xff, 0xfe}, "array": []any{"a", int32(1), amqp.Table{"b": true}},
		"table": amqp.Table{"n": amqp.Table{"deep": []byte("x")}}, "string": "s", "\xff": "not utf-8",
	}
	want := map[string]string{
		"bool": "true", "byte": "200", "int8": "-3", "int16": "-300", "int32": "70000", "int64": "1099511627776",
		"float32": "0.5", "float64": "2.25", "decimal": "123.45", "time": "2026-01-02T03:04:05Z", "void": "",
		"bytes": "text", "raw": "//4=", "array": `["a",1,{"b":true}]`, "table": `{"n":{"deep":"x"}}`, "string": "s", "\ufffd": "not utf-8",
	}
	d := put(amqp.Publishing{Headers: headers, Body: []byte{0, 1, 2}, ContentType: "application/x-own", CorrelationId: "c", MessageId: "mine",
		Timestamp: at, Type: "their.event"})
	for k, v := range want {
		if d.Metadata[k] != v {
			t.Errorf("header %q is %q, want %q", k, d.Metadata[k], v)
		}
	}
	if len(d.Metadata) != len(want) || d.ID != "mine" || d.Name != "their.event" || d.ContentType != "application/x-own" ||
		d.CorrelationID != "c" || !d.Time.Equal(at) || string(d.Payload) != "\x00\x01\x02" {
		t.Errorf("got %+v", d)
	}
	if err := d.Check(); err != nil {
		t.Errorf("it cannot be published again: %v", err)
	}
	settle(t, sub, transport.Ack, d)
	bare := put(amqp.Publishing{Body: []byte("x")})
	if err := bare.Check(); err != nil || bare.Metadata != nil || bare.Name != "" {
		t.Errorf("a message with nothing but a body: %+v, %v", bare, err)
	}
	settle(t, sub, transport.Ack, bare)
}
