package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/transport"
)

// onEach runs a test on each transport that another process can see.
func onEach(t *testing.T, test func(t *testing.T, p program, tr transport.Transport)) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off" },
		"postgres": func(t *testing.T) string { return withBytes(testdb.New(t, testservices.Postgres(t))) },
		"mysql":    func(t *testing.T) string { return withBytes(testdb.New(t, testservices.MySQL(t))) },
		"rabbitmq": func(t *testing.T) string { return testservices.RabbitMQ(t) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := url(t)
			tr, err := transport.Open(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := tr.Close(); err != nil {
					t.Error(err)
				}
			})
			test(t, program{t: t, environ: []string{"POSTBUS_TRANSPORT=" + at}}, tr)
		})
	}
}

// withBytes has payloads that are not JSON.
func withBytes(url string) string {
	if strings.Contains(url, "?") {
		return url + "&payload=bytea"
	}
	return url + "?payload=bytea"
}

// topicOf is a topic of the test's own, for a broker outlives it.
func topicOf(t *testing.T) string {
	return "cli" + strings.ReplaceAll(time.Now().Format("150405.000000"), ".", "_") + filepath.Base(t.Name())
}

func subscribe(t *testing.T, tr transport.Transport, topic, group string) transport.Subscription {
	t.Helper()
	s, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: group})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// receive returns the next message, and acknowledges it.
func receive(t *testing.T, s transport.Subscription) *transport.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	d, err := s.Receive(ctx, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Settle(ctx, []transport.Settlement{{Tag: d[0].Tag, Outcome: transport.Ack}}); err != nil {
		t.Fatal(err)
	}
	return d[0].Message
}

func TestSend(t *testing.T) {
	onEach(t, func(t *testing.T, p program, tr transport.Transport) {
		topic := topicOf(t)
		billing, shipping := subscribe(t, tr, topic, "billing"), subscribe(t, tr, topic, "shipping")
		id := strings.TrimSpace(p.ok("send", topic+".placed", `{"order":"o-1"}`, "--key", "o-1", "--version", "2", "--meta", "a=b", "--meta", "c=", "--correlation", "root"))
		for _, s := range []transport.Subscription{billing, shipping} {
			m := receive(t, s)
			if m.ID != id || m.Name != topic+".placed" || m.Key != "o-1" || m.Version != 2 || m.CorrelationID != "root" ||
				m.ContentType != "application/json" || string(m.Payload) != `{"order":"o-1"}` || m.Metadata["a"] != "b" || m.Time.IsZero() {
				t.Errorf("got %+v, sent %s", m, id)
			}
		}
		file := filepath.Join(t.TempDir(), "order.bin")
		if err := os.WriteFile(file, []byte{0, 0xff}, 0o600); err != nil {
			t.Fatal(err)
		}
		sent := objects[message](t, p.ok("send", "other.name", "@"+file, "--topic", topic, "--content-type", "application/octet-stream",
			"--group", "billing", "--after", "1s", "--id", "mine", "--json"))[0]
		if sent.ID != "mine" || sent.Topic != topic || string(sent.Base64) != "\x00\xff" {
			t.Errorf("sent %+v", sent)
		}
		p.stdin = `{"order":"o-2"}`
		p.ok("send", topic+".placed", "-")
		if m := receive(t, shipping); string(m.Payload) != p.stdin { // nothing for billing alone
			t.Errorf("shipping got %+v", m)
		}
		m, other := receive(t, billing), receive(t, billing)
		if m.ID != "mine" { // which is first, if the machine took more than a second for the other
			m, other = other, m
		}
		if m.ID != "mine" || string(m.Payload) != "\x00\xff" || string(other.Payload) != p.stdin {
			t.Errorf("billing got %+v and %+v", m, other)
		}
		p.fails(exitFailure, []string{"the payload is not JSON", "--force"}, "send", topic+".placed", "{")
		p.fails(exitFailure, []string{"no_such"}, "send", topic+".placed", "@no_such")
		p.fails(exitFailure, []string{"must not be empty"}, "send", "", "{}")
		p.fails(exitFailure, []string{"nobody"}, "send", topic+".placed", "{}", "--group", "nobody")
		p.fails(exitFailure, []string{"nobody"}, "send", topic+".placed", "{}", "--group", "nobody", "--after", "1s")
		p.ok("send", topic+".placed", "{}", "--group", "nobody", "--force")
	})
}

func TestTail(t *testing.T) {
	onEach(t, func(t *testing.T, p program, tr transport.Transport) {
		topic := topicOf(t)
		p.fails(exitFailure, []string{"no such topic"}, "tail", topic)
		p.ok("send", topic+".placed", `{"n":1}`)
		p.ok("send", topic+".placed", "\"\x1b[2J\"", "--key", "k\x1b", "--force")
		replays := tr.Capabilities().Replay
		if !replays { // it begins now: the messages must come while it looks
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			done := make(chan struct{})
			defer func() { cancel(); <-done }()
			go func() {
				defer close(done)
				for ctx.Err() == nil {
					for _, m := range []transport.Message{{ID: "1", Name: topic + ".placed", Payload: []byte(`{"n":1}`)},
						{ID: "2", Name: topic + ".placed", Key: "k\x1b", Payload: []byte("\"\x1b[2J\"")}} {
						_ = tr.Publish(ctx, topic, []transport.Message{m})
					}
				}
			}()
		}
		out := p.ok("tail", topic, "--from", "beginning", "--count", "2")
		if strings.Contains(out, "\x1b") || !strings.Contains(out, `{"n":1}`) || !strings.Contains(out, `key=k\x1b  "\x1b[2J"`) || strings.Count(out, "\n") != 2 {
			t.Errorf("got %q", out)
		}
		list := objects[message](t, p.ok("tail", topic, "--from", "beginning", "--key", "k\x1b", "--count", "1", "--json"))
		if len(list) != 1 || list[0].Key != "k\x1b" || list[0].Payload != "\"\x1b[2J\"" || list[0].Topic != topic {
			t.Errorf("got %+v", list)
		}
		if replays {
			later := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
			p.ok("tail", topic, "--from", time.Now().Add(-time.Hour).UTC().Format(time.RFC3339), "--count", "2")
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			err := tr.(transport.Tailer).Tail(ctx, topic, transport.StartNow(), func(m *transport.Message) error {
				t.Errorf("a message from before: %+v", m)
				return nil
			})
			if ctx.Err() == nil {
				t.Errorf("ended with %v before %s", err, later)
			}
			status, err := tr.(transport.StatusReporter).Status(t.Context())
			if err != nil || len(status) != 0 {
				t.Errorf("it left behind %+v, %v", status, err)
			}
		}
	})
}

func TestGroups(t *testing.T) {
	onEach(t, func(t *testing.T, p program, tr transport.Transport) {
		if _, ok := tr.(transport.StatusReporter); !ok {
			p.fails(exitFailure, []string{"cannot tell its groups; see: postbus help groups"}, "groups")
			return
		}
		topic := topicOf(t)
		billing := subscribe(t, tr, topic, "billing\u202e")
		subscribe(t, tr, topic, "shipping")
		for range 3 {
			p.ok("send", topic+".placed", "{}")
		}
		receive(t, billing)
		lines := func(args ...string) []groupLine {
			return objects[groupLine](t, p.ok(append([]string{"groups", "--json"}, args...)...))
		}
		eventually(t, func() bool { // an acknowledgement is written a little later
			list := lines()
			return len(list) == 2 && list[0].Lag == 2 && list[1].Lag == 3
		})
		list := lines("--topic", topic, "--group", "billing\u202e")
		if len(list) != 1 || list[0].Topic != topic || list[0].Owner == "" || list[0].Partitions != 1 || list[0].AgeSeconds <= 0 {
			t.Errorf("got %+v", list)
		}
		if list := lines("--group", "nobody"); len(list) != 0 {
			t.Errorf("got %+v", list)
		}
		out := p.ok("groups")
		if !strings.Contains(out, "TOPIC") || !strings.Contains(out, `billing\u202e`) || strings.Contains(out, "\u202e") || !strings.Contains(out, list[0].Owner) {
			t.Errorf("got\n%s", out)
		}
	})
}

// eventually polls until ok, and fails after a minute.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute")
		}
	}
}
