package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/internal/testservices/testdb"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
)

type placed struct {
	Order string `json:"order"`
}

func (placed) EventName() string  { return "orders.placed" }
func (e placed) EventKey() string { return e.Order }

// TestQuarantine has a group that fails until its messages are mended, and an operator who mends them.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]func(t *testing.T) string{
		"sqlite":   func(t *testing.T) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off" },
		"postgres": func(t *testing.T) string { return withBytes(testdb.New(t, testservices.Postgres(t))) },
		"mysql":    func(t *testing.T) string { return withBytes(testdb.New(t, testservices.MySQL(t))) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at := url(t)
			store := strings.TrimSuffix(strings.TrimSuffix(at, "payload=bytea"), "?")
			store = strings.TrimSuffix(store, "&")
			quarantineOn(t, at, store)
		})
	}
	t.Run("rabbitmq", func(t *testing.T) {
		t.Parallel()
		quarantineOn(t, testservices.RabbitMQ(t), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	})
}

func quarantineOn(t *testing.T, at, store string) {
	topic := topicOf(t)
	p := program{t: t, environ: []string{"POSTBUS_TRANSPORT=" + at, "POSTBUS_STORE=" + store}}
	tr, err := transport.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.Close() })
	q, err := quarantine.Open(t.Context(), store, quarantine.Config{Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	quiet := slog.New(slog.DiscardHandler)
	b, err := bus.New(bus.Config{
		Transport: tr, Logger: quiet, Topic: func(string) string { return topic },
		Middleware: middleware.Standard(middleware.StandardConfig{Quarantine: q, Log: middleware.LogConfig{Logger: quiet}}),
	})
	if err != nil {
		t.Fatal(err)
	}
	handled := make(chan string, 10)
	bus.Handle(b, "billing", func(_ context.Context, e placed) error {
		if strings.HasPrefix(e.Order, "bad") {
			return bus.Permanent(fmt.Errorf("charge: %w", errors.New("no order \"\x1b[2J"+e.Order+"\"")))
		}
		handled <- e.Order
		return nil
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for i := range 3 {
		if err := b.Publish(t.Context(), placed{fmt.Sprintf("bad-%d", i)}); err != nil {
			t.Fatal(err)
		}
	}
	p.ok("send", "orders.placed", "\x00\xff", "--topic", topic, "--force")
	list := func(args ...string) []entryLine {
		t.Helper()
		return objects[entryLine](t, p.ok(append([]string{"quarantine", "list", "--json"}, args...)...))
	}
	eventually(t, func() bool { return len(list()) == 4 })

	kinds := objects[kindLine](t, p.ok("quarantine", "kinds", "--json"))
	if len(kinds) != 2 || kinds[0].Count != 3 || kinds[0].Group != "billing" || !strings.Contains(kinds[0].Sample, "\x1b[2Jbad") {
		t.Fatalf("kinds: %+v", kinds)
	}
	kind := kinds[0].Kind
	for _, out := range []string{p.ok("quarantine", "kinds"), p.ok("quarantine", "list"), p.ok("quarantine", "list", "--kind", kind, "--since", "2h", "--limit", "0")} {
		if strings.Contains(out, "\x1b") || !strings.Contains(out, kind) {
			t.Errorf("got %q", out)
		}
	}
	if n := p.ok("quarantine", "list", "--kind", kind, "--count"); n != "3\n" {
		t.Errorf("count: %s", n)
	}
	if got := list("--before", "1d"); len(got) != 0 {
		t.Errorf("failed before a day ago: %+v", got)
	}
	_, _, more := p.run("quarantine", "list", "--limit", "3")
	if !strings.Contains(more, "there are more; go on with --from ") {
		t.Errorf("no next page: %q", more)
	}
	if rest := list("--from", strings.TrimSpace(more[strings.LastIndex(more, " "):])); len(rest) != 1 {
		t.Errorf("the next page has %+v", rest)
	}

	first := list("--kind", kind)[0]
	id := fmt.Sprint(first.ID)
	shown := objects[recordLine](t, p.ok("quarantine", "show", id, "--json"))[0]
	if shown.Message.ID != first.MessageID || len(shown.Errors) < 2 || len(shown.History) != 1 || shown.Message.Payload != `{"order":"`+first.Key+`"}` {
		t.Errorf("shown %+v", shown)
	}
	out := p.ok("quarantine", "show", id)
	if strings.Contains(out, "\x1b") || !strings.Contains(out, `no order "\x1b[2Jbad-`) || !strings.Contains(out, `"order": "bad-`) || !strings.Contains(out, "delivery 1") {
		t.Errorf("shown:\n%s", out)
	}
	undecodable := list("--event", "orders.placed", "--kind", kinds[1].Kind)[0]
	if raw := p.ok("quarantine", "show", fmt.Sprint(undecodable.ID), "--payload"); raw != "\x00\xff" {
		t.Errorf("the payload is %q", raw)
	}

	p.fails(exitFailure, []string{"cannot be decoded"}, "quarantine", "edit", id, "--payload", "{")
	p.stdin = `{"order":"good"}`
	p.ok("quarantine", "edit", id, "--payload", "-", "--meta", "by=me")
	if out := p.ok("quarantine", "show", id); !strings.Contains(out, "as it was edited") || !strings.Contains(out, "metadata by: me") {
		t.Errorf("shown after the edit:\n%s", out)
	}
	if raw := p.ok("quarantine", "show", id, "--payload"); raw != p.stdin {
		t.Errorf("the payload is %q", raw)
	}
	if out := p.ok("quarantine", "replay", id, "--json"); objects[replayLine](t, out)[0].Replayed != 1 {
		t.Error(out)
	}
	select {
	case order := <-handled:
		if order != "good" {
			t.Errorf("handled %q", order)
		}
	case <-time.After(time.Minute):
		t.Fatal("the replay was not handled")
	}
	p.failsSaying(exitFailure, "1 of 1 entries were not there to be replayed", "quarantine", "replay", id)

	// Those that are as bad as before come back to their entries.
	p.ok("quarantine", "replay", "--kind", kind, "--rate", "1000")
	eventually(t, func() bool {
		l := list("--kind", kind)
		return len(l) == 2 && l[0].Replays == 1 && l[1].Replays == 1
	})
	if out := p.ok("quarantine", "discard", "--kind", kind, "--try"); out != "would discard 2\n" {
		t.Error(out)
	}
	if out := p.ok("quarantine", "discard", "--kind", kind, "--json"); out != "{\"discarded\":2}\n" {
		t.Error(out)
	}
	p.ok("quarantine", "discard", fmt.Sprint(undecodable.ID))
	if l := list(); len(l) != 0 {
		t.Errorf("left: %+v", l)
	}
	p.failsSaying(exitFailure, "1 of 1 entries were not there to be discarded", "quarantine", "discard", "4711")
	p.fails(exitFailure, []string{"no such entry"}, "quarantine", "show", "4711")
}

// TestReplayOfAParkedKey: such an entry is there to be replayed, although it goes in its turn.
func TestReplayOfAParkedKey(t *testing.T) {
	t.Parallel()
	at := "sqlite:" + filepath.Join(t.TempDir(), "x.db")
	tr, err := transport.Open(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "billing"})
	if err == nil {
		err = sub.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	q, err := quarantine.Open(t.Context(), at, quarantine.Config{Transport: tr, ParkKeys: []string{"billing"}})
	if err != nil {
		t.Fatal(err)
	}
	defer q.Close()
	for _, id := range []string{"m1", "m2"} {
		m := &transport.Message{ID: id, Name: "orders.placed", Key: "key-" + id, Payload: []byte("{}")}
		if err := q.Put(t.Context(), bus.NewDelivery(m, "orders", "billing", 1), errors.New("broken")); err != nil {
			t.Fatal(err)
		}
	}
	p := program{t: t, environ: []string{"POSTBUS_TRANSPORT=" + at, "POSTBUS_STORE=" + at}}
	if out := p.ok("quarantine", "replay", "1", "1"); !strings.HasPrefix(out, "replayed 0\nin line 1, of parked keys") {
		t.Errorf("printed %q", out)
	}
	if got := objects[replayLine](t, p.ok("quarantine", "replay", "2", "--json"))[0]; got.InLine != 1 || got.Replayed != 0 {
		t.Errorf("got %+v", got)
	}
}

// failsSaying is fails for a command that prints what it has done all the same.
func (p program) failsSaying(code int, text string, args ...string) {
	p.t.Helper()
	if got, _, errs := p.run(args...); got != code || !strings.Contains(errs, text) {
		p.t.Errorf("postbus %q: exit code %d, want %d; it said %q", args, got, code, errs)
	}
}

func TestQuarantineUsage(t *testing.T) {
	t.Parallel()
	p := program{t: t, environ: []string{"POSTBUS_STORE=sqlite:" + filepath.Join(t.TempDir(), "x.db")}}
	for _, tc := range []struct {
		says string
		args []string
	}{
		{"which entries?", []string{"replay"}},
		{"which entries?", []string{"discard", "--status", "replayed"}},
		{`"abc" is not the id of an entry`, []string{"discard", "abc"}},
		{`"0" is not the id of an entry`, []string{"show", "0"}},
		{"edit what?", []string{"edit", "17"}},
		{"--status: quarantine: status \"lost\" is not one of waiting", []string{"list", "--status", "lost"}},
		{`--since "soon" is neither`, []string{"list", "--since", "soon"}},
		{"which transport?", []string{"replay", "17"}},
		{"must not be negative", []string{"replay", "--all", "--limit", "-1"}},
		{"must not be negative", []string{"replay", "--all", "--rate", "NaN"}},
	} {
		p.fails(exitUsage, []string{tc.says}, append([]string{"quarantine"}, tc.args...)...)
	}
	p.environ = nil
	p.fails(exitUsage, []string{"which database?"}, "quarantine", "list")
	p.fails(exitFailure, []string{"store"}, "quarantine", "list", "--store", "oracle://db")
}
