package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestForward: what is committed arrives, as if Bus.Publish had published it, in the order of the commits, and leaves the
// outbox; what is rolled back does not arrive.
func TestForward(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		f.commit(t, box, order("early", 1))
		var r target
		fw := forward(t, box, &r, outbox.ForwarderConfig{Keep: time.Millisecond})
		r.want(t, "orders early1")
		tx := f.begin()
		if err := box.In(tx).Publish(t.Context(), order("never", 1)); err != nil {
			t.Fatal(err)
		}
		if err := tx.Rollback(); err != nil {
			t.Fatal(err)
		}
		ctx := bus.WithCorrelationID(t.Context(), "c1")
		err := box.Tx(t.Context(), func(tx *outbox.Tx) error {
			return tx.Publish(ctx, bus.WithMetadata(map[string]string{"k": "v"}, order("a", 1)), order("a", 2), bus.WithID("p", paid{"x"}))
		})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "4 messages", func() bool { return len(r.all()) >= 4 })
		if got := only(r.all(), "orders "); !slices.Equal(got, []string{"orders early1", "orders a1", "orders a2"}) {
			t.Errorf("on orders: %q", got)
		}
		r.mu.Lock()
		m := r.msgs[slices.IndexFunc(r.msgs, func(m transport.Message) bool { return m.ID == "a1" })]
		r.mu.Unlock()
		if m.Key != "a" || m.Name != "orders.placed" || m.CorrelationID != "c1" || len(m.Metadata) != 1 || m.Metadata["k"] != "v" ||
			string(m.Payload) != `{"order_id":"a","n":1}` || m.Time.IsZero() || m.TargetGroup != "" || !m.NotBefore.IsZero() {
			t.Errorf("got %+v", m)
		}
		if b, err := fw.Backlog(t.Context()); err != nil || b.Owner == "" || b.Err != nil {
			t.Errorf("backlog %+v, %v", b, err)
		}
		eventually(t, "an empty outbox", func() bool { return f.count("SELECT COUNT(*) FROM "+f.outboxTable()) == 0 })
	})
}

// outboxTable is the table of the messages of the outbox.
func (f *fixture) outboxTable() string { return "watermill_" + outbox.DefaultName }

func only(all []string, prefix string) []string {
	return slices.DeleteFunc(all, func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

// TestForwardScheduled: an event for later comes when it is due, for its group, unless it was cancelled.
func TestForwardScheduled(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{})
		var r target
		forward(t, box, &r, outbox.ForwarderConfig{})
		scheduled(t, f, box, &r)
	})
}

// TestForwardScheduledToPrompt: a target that knows no delays takes what was scheduled.
func TestForwardScheduledToPrompt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	r := target{prompt: true}
	box := f.box(outbox.Config{})
	forward(t, box, &r, outbox.ForwarderConfig{})
	f.commit(t, box, bus.After(10*time.Millisecond, order("later", 1)))
	r.want(t, "orders later1")
	if !r.msgs[0].NotBefore.IsZero() {
		t.Errorf("got %+v", r.msgs[0])
	}
}

func scheduled(t *testing.T, f *fixture, box *outbox.Box, r *target) {
	t.Helper()
	begin := time.Now()
	const delay = 700 * time.Millisecond
	f.commit(t, box, bus.After(delay, order("later", 1)), order("now", 1))
	r.want(t, "orders now1", "orders later1")
	if took := time.Since(begin); took < delay {
		t.Errorf("came after %v, want %v", took, delay)
	}
	if m := r.msgs[1]; m.NotBefore.Before(begin.Add(delay)) || m.NotBefore.After(time.Now()) {
		t.Errorf("it was due at %v, says the message", m.NotBefore)
	}
	for in, n := delay, 1; ; in, n = 4*in, n+1 { // until it is in time
		f.commit(t, box, bus.After(in, order("cancelled", n)), bus.After(in, order("last", n)))
		tx := f.begin()
		found, err := box.In(tx).Cancel(t.Context(), fmt.Sprint("cancelled", n))
		if err := errors.Join(err, tx.Commit()); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the one that was not cancelled", func() bool { return slices.Contains(r.all(), fmt.Sprint("orders last", n)) })
		if found {
			if slices.Contains(r.all(), fmt.Sprint("orders cancelled", n)) {
				t.Error("an event came that had been cancelled")
			}
			break
		}
		if n == 4 {
			t.Fatal("what waits for its time cannot be cancelled")
		}
	}
	if found, err := box.Cancel(t.Context(), "later1"); err != nil || found {
		t.Errorf("cancel of what has come: %v, %v", found, err)
	}
}

// TestForwardTargetDown: while the target fails nothing is lost, and an operator sees what waits and why.
func TestForwardTargetDown(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		down := errors.New("the broker is away")
		r := target{fail: func(context.Context, string) error { return down }}
		fw := forward(t, box, &r, outbox.ForwarderConfig{Batch: 4})
		var want []string
		for i := range 10 {
			f.commit(t, box, order("a", i))
			want = append(want, fmt.Sprintf("orders a%d", i))
		}
		eventually(t, "a backlog of 10 and its cause", func() bool {
			b, err := fw.Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return b.Messages == 10 && errors.Is(b.Err, down) && !b.Since.IsZero() && b.Oldest > 0
		})
		r.set(func() { r.fail = nil })
		r.want(t, want...)
		eventually(t, "no backlog", func() bool {
			b, err := fw.Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return b.Messages == 0 && b.Err == nil
		})
		if r.most > 4 {
			t.Errorf("%d messages were on their way at once, want 4 at most", r.most)
		}
	})
}

// TestForwarders: of several one works; when it stops, another goes on at once, and when it dies, within its lease.
func TestForwarders(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		var r target
		box := f.box(outbox.Config{Logger: quiet})
		var all []*outbox.Forwarder
		for range 3 {
			b := outbox.New(f.open(), outbox.Config{Logger: quiet})
			all = append(all, forward(t, b, &r, outbox.ForwarderConfig{}))
		}
		send := func(n int) {
			f.commit(t, box, order("a", n))
			eventually(t, fmt.Sprintf("message %d", n), func() bool { return slices.Contains(r.all(), fmt.Sprintf("orders a%d", n)) })
		}
		send(1)
		active := func() (who *outbox.Forwarder) {
			eventually(t, "one is active", func() bool {
				for _, fw := range all {
					if b, err := fw.Backlog(t.Context()); err != nil {
						t.Fatal(err)
					} else if b.Active {
						who = fw
					}
				}
				return who != nil
			})
			return who
		}
		first := active()
		stopForwarder(t, first)
		send(2)
		second := active()
		eventually(t, "it is noted that the message was forwarded", func() bool {
			b, err := second.Backlog(t.Context())
			return err == nil && b.Messages == 0
		})
		second.Crash()
		send(3)
		r.want(t, "orders a1", "orders a2", "orders a3")
	})
}

// TestForwarderLife: a Forwarder can be stopped at any time and often, and started once.
func TestForwarderLife(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := outbox.New(f.db, outbox.Config{Logger: quiet})
		blocked := make(chan struct{})
		r := target{fail: func(ctx context.Context, _ string) error {
			close(blocked)
			<-ctx.Done()
			return ctx.Err()
		}}
		fw, err := outbox.NewForwarder(box, &r, outbox.ForwarderConfig{})
		if err != nil {
			t.Fatal(err)
		}
		stopForwarder(t, fw)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := fw.Start(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("start with a context that ended: %v", err)
		}
		starting, cancel := context.WithCancel(t.Context())
		if err := fw.Start(starting); err != nil {
			t.Fatal(err)
		}
		cancel()
		if err := fw.Start(t.Context()); !errors.Is(err, bus.ErrInvalid) {
			t.Errorf("second start: %v", err)
		}
		f.commit(t, box, order("a", 1))
		<-blocked // it works although the context of Start has ended
		short, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		if err := fw.Stop(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("stop while the target does not answer: %v", err)
		}
		stopForwarder(t, fw)
		stopForwarder(t, fw)
		if b, err := fw.Backlog(t.Context()); err != nil || b.Messages != 1 || b.Owner != "" {
			t.Errorf("after the stop: %+v, %v", b, err)
		}
	})
}

func TestForwarderMistakes(t *testing.T) {
	t.Parallel()
	f := newFixture(t, dialects[2])
	for name, tc := range map[string]struct {
		box    *outbox.Box
		target transport.Transport
		cfg    outbox.ForwarderConfig
		want   string
	}{
		"no box":    {nil, inProcess(t), outbox.ForwarderConfig{}, "the Box is missing"},
		"no target": {outbox.New(f.db, outbox.Config{}), nil, outbox.ForwarderConfig{}, "the target is missing"},
		"bad box":   {outbox.New(nil, outbox.Config{}), inProcess(t), outbox.ForwarderConfig{}, "the database is missing"},
		"direct":    {outbox.New(f.db, outbox.Config{Transport: f.transport()}), inProcess(t), outbox.ForwarderConfig{}, "nothing to forward"},
		"negative":  {outbox.New(f.db, outbox.Config{}), inProcess(t), outbox.ForwarderConfig{Batch: -1}, "Batch -1"},
		"too many":  {outbox.New(f.db, outbox.Config{}), inProcess(t), outbox.ForwarderConfig{Tail: true, Batch: 200_000}, "Batch 200000 must be at most 100000 with Tail"},
	} {
		_, err := outbox.NewForwarder(tc.box, tc.target, tc.cfg)
		if !errors.Is(err, bus.ErrInvalid) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

// TestForwardToGroup: a message for one group stays one on the other side.
func TestForwardToGroup(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		toTwo := func(next bus.PublishHandler) bus.PublishHandler {
			return func(ctx context.Context, topic string, msgs []transport.Message) error {
				msgs[0].TargetGroup = "two"
				return next(ctx, topic, msgs)
			}
		}
		box := f.box(outbox.Config{Publishing: []bus.PublishMiddleware{toTwo}})
		mem := inProcess(t)
		forward(t, box, mem, outbox.ForwarderConfig{})
		var j journal
		startBus(t, mem, func(b *bus.Bus) {
			for _, group := range []string{"one", "two"} {
				bus.Handle(b, group, func(_ context.Context, e placed) error { j.add("%s %s", group, e.OrderID); return nil })
			}
		})
		f.commit(t, box, placed{"a", 1})
		j.want(t, "two a")
	})
}
