package rabbitmq_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func TestBadURLs(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	good := brokerURL(t)
	host := good[strings.LastIndex(good, "@")+1 : strings.LastIndex(good, "/")]
	wait := "connect_timeout=" + patience.String()
	cert := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(cert, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, url, want string }{
		{"unknown parameter", good + "?quue=classic", `unknown parameter "quue"; known: auth_mechanism, cacertfile`},
		{"bad value", good + "?queue=stream", `parameter queue="stream" must be one of quorum, classic`},
		{"bad heartbeat", good + "?heartbeat=10ms", "heartbeat 10ms must be at least 1s"},
		{"one file of two", good + "?certfile=a", "certificate file and key file go together"},
		{"certificate without TLS", good + "?cacertfile=a", "need amqps"},
		{"virtual host", good + "-none?" + wait, "virtual host"},
		{"nobody there", "amqp://u:s3cret@127.0.0.1:1/?" + wait, "connect"},
		{"no answer", "amqp://u:s3cret@" + silent.Addr().String() + "/?connect_timeout=200ms", "deadline exceeded"},
		{"no TLS there", "amqps://u:s3cret@" + host + "/?" + wait, "TLS"},
		{"no such file", "amqps://u:s3cret@" + host + "/?cacertfile=/nonexistent&" + wait, "cacertfile"},
		{"no certificate", "amqps://u:s3cret@" + host + "/?cacertfile=" + cert + "&" + wait, "holds no certificate"},
		{"no password file", "amqp://u@" + host + "/?password_file=/nonexistent", "password_file"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			tr, err := transport.Open(t.Context(), c.url)
			if err == nil {
				tr.Close()
				t.Fatal("it opened")
			}
			said := err.Error()
			if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
				said += ": deadline exceeded" // package net has words of its own
			}
			if !strings.Contains(said, c.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("error %q, want one with %q and no password", err, c.want)
			}
		})
	}
}

func TestBadMessagesDoNotHarmOthers(t *testing.T) {
	t.Parallel()
	tr := open(t, with(t, brokerURL(t), "max_payload=1000&mandatory=true"))
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	msgs := messages("m", 7)
	msgs[1].Payload = make([]byte, 1001)
	msgs[2].Metadata = map[string]string{strings.Repeat("k", 256): "v"}
	msgs[3].Metadata = map[string]string{"big": strings.Repeat("v", 200<<10)}
	msgs[4].TargetGroup = "nobody"
	msgs[5].NotBefore, msgs[5].TargetGroup = time.Now().Add(time.Minute), "nobody"
	want := []error{
		nil, transport.ErrTooLarge, transport.ErrUnsupported, transport.ErrTooLarge, rabbitmq.ErrUnroutable, rabbitmq.ErrUnroutable, nil,
	}
	err := tr.Publish(t.Context(), topic, msgs)
	var partial *transport.PublishError
	if !errors.As(err, &partial) {
		t.Fatalf("got %v", err)
	}
	for i := range want {
		if !errors.Is(partial.Errs[i], want[i]) {
			t.Errorf("message %d: %v, want %v", i, partial.Errs[i], want[i])
		}
	}
	ds := receive(t, sub, 2)
	if ds[0].ID != "m-0" || ds[1].ID != "m-6" {
		t.Errorf("got %s and %s", ds[0].ID, ds[1].ID)
	}
	settle(t, sub, transport.Ack, ds...)
	if tr.Status().Publish.Connects != 1 {
		t.Error("a bad message cost the connection")
	}
}

// TestLargestPayload runs alone: under the race detector it takes half a GiB of memory, and some seconds.
func TestLargestPayload(t *testing.T) {
	tr := open(t, with(t, brokerURL(t), fmt.Sprintf("max_payload=%d", 64<<20)))
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	payload := make([]byte, 64<<20)
	payload[0], payload[len(payload)-1] = 1, 2
	publish(t, tr, topic, transport.Message{ID: "big", Payload: payload})
	d := receive(t, sub, 1)[0]
	if len(d.Payload) != len(payload) || d.Payload[0] != 1 || d.Payload[len(payload)-1] != 2 {
		t.Errorf("%d bytes came", len(d.Payload))
	}
	settle(t, sub, transport.Ack, d)
	small := open(t, brokerURL(t))
	if err := small.Publish(t.Context(), topic, []transport.Message{{ID: "big", Payload: payload}}); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("64 MiB with the default limit: %v", err)
	}
}

// TestBrokerTakesLess: the broker's limit is below the one that the transport knows, and it ends the channel.
func TestBrokerTakesLess(t *testing.T) {
	t.Parallel()
	broker := newFake(t, 1_000_000)
	tr := openQuiet(t, broker.url, rabbitmq.Hasty)
	large := transport.Message{ID: "large", Payload: make([]byte, 1_000_001)}
	results := make(chan error, 20)
	for range cap(results) { // beside others, which go on
		go func() { results <- tr.Publish(t.Context(), "topic", messages("m", 3)) }()
	}
	if err := tr.Publish(t.Context(), "topic", []transport.Message{large}); !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("a message beyond the broker's limit: %v", err)
	}
	for range cap(results) {
		// What was on its way before it may have been confirmed just then.
		if err := <-results; err != nil && !errors.Is(err, transport.ErrOutcomeUnknown) {
			t.Errorf("a message beside it: %v", err)
		}
	}
	var partial *transport.PublishError
	batch := append(messages("m", 2), large)
	if err := tr.Publish(t.Context(), "topic", append(batch, messages("after", 1)...)); !errors.As(err, &partial) ||
		!errors.Is(partial.Errs[2], transport.ErrTooLarge) || partial.Errs[3] == nil || errors.Is(partial.Errs[3], transport.ErrOutcomeUnknown) {
		t.Errorf("a batch with such a message: %v", err)
	}
	publish(t, tr, "topic", messages("m", 3)...)
}

func TestMandatory(t *testing.T) {
	t.Parallel()
	topic := unique(t)
	lax := openQuiet(t, brokerURL(t), nil)
	publish(t, lax, topic, messages("m", 3)...)
	if n := lax.Status().Unroutable; n != 3 {
		t.Errorf("%d messages counted, want 3", n)
	}
	strict := open(t, with(t, brokerURL(t), "mandatory=true"))
	if err := strict.Publish(t.Context(), topic, messages("m", 2)); !errors.Is(err, rabbitmq.ErrUnroutable) {
		t.Errorf("got %v", err)
	}
}

func TestAwkwardNames(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	type pair struct{ topic, group string }
	stamp := rand.Text()
	pairs := []pair{
		{"amq." + stamp, "g"}, {"%amq." + stamp, "g"}, {"postbus.delay." + stamp, "out"}, {stamp + "_a", "b"}, {stamp, "a_b"},
		{stamp, "a%5Fb"}, {strings.Repeat("ü", 127), stamp}, {strings.Repeat("ü", 127), strings.Repeat(stamp, 9)},
		{strings.Repeat("x", 255), stamp}, {"amq." + strings.Repeat("x", 251), stamp}, {stamp + " ' \" ; drop", "G"}, {stamp + " ' \" ; drop", "g"},
	}
	conn := dial(t, brokerURL(t))
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pairs {
		sub := subscribe(t, tr, p.topic, p.group)
		t.Cleanup(func() {
			ch.QueueDelete(rabbitmq.QueueName(p.topic, p.group), false, false, false)
			ch.ExchangeDelete(rabbitmq.ExchangeName(p.topic), false, false)
		})
		publish(t, tr, p.topic, transport.Message{ID: p.topic + "/" + p.group, TargetGroup: p.group, Payload: []byte("x")})
		d := receive(t, sub, 1)[0]
		if d.ID != p.topic+"/"+p.group {
			t.Errorf("%q got a message of another: %q", p, d.ID)
		}
		settle(t, sub, transport.Ack, d)
		sub.Close()
	}
}

func TestClosed(t *testing.T) {
	t.Parallel()
	tr := open(t, brokerURL(t))
	topic := unique(t, "g")
	sub := subscribe(t, tr, topic, "g")
	result := make(chan error, 1)
	go func() {
		_, err := sub.Receive(t.Context(), 1)
		result <- err
	}()
	tr.Close()
	tr.Close()
	if err := <-result; !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Receive: %v", err)
	}
	if err := tr.Publish(t.Context(), topic, messages("m", 1)); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Publish: %v", err)
	}
	if _, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "g"}); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Subscribe: %v", err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := open(t, brokerURL(t)).Publish(ended, topic, messages("m", 1)); !errors.Is(err, context.Canceled) {
		t.Errorf("Publish with an ended context: %v", err)
	}
	if _, err := rabbitmq.Open(ended, rabbitmq.Config{URL: brokerURL(t), TLS: &tls.Config{MinVersion: tls.VersionTLS13}}); err == nil {
		t.Error("TLS without amqps was taken")
	}
}
