package outbox_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/transport"
)

// target records what is published to it.
type target struct {
	transport.Transport // nil: only Publish and Capabilities are used

	mu     sync.Mutex
	got    []string // "topic id"
	msgs   []transport.Message
	most   int                                            // messages of one call
	refuse func(topic string, m *transport.Message) error // for single messages
	whole  bool                                           // they are refused together with those published with them
	fail   func(ctx context.Context, topic string) error  // for all

	prompt bool // it knows no delays
}

func (r *target) Capabilities() transport.Capabilities {
	return transport.Capabilities{Delay: !r.prompt}
}

func (r *target) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.most = max(r.most, len(msgs))
	if r.fail != nil {
		if err := r.fail(ctx, topic); err != nil {
			return err
		}
	}
	for i := range msgs {
		if r.whole && r.refuse(topic, &msgs[i]) != nil {
			return r.refuse(topic, &msgs[i])
		}
	}
	errs, failed := make([]error, len(msgs)), false
	for i := range msgs {
		if r.refuse != nil {
			if errs[i] = r.refuse(topic, &msgs[i]); errs[i] != nil {
				failed = true
				continue
			}
		}
		r.got, r.msgs = append(r.got, topic+" "+msgs[i].ID), append(r.msgs, msgs[i])
	}
	if failed {
		return &transport.PublishError{Errs: errs}
	}
	return nil
}

func (r *target) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *target) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

// want waits for what is there in the end.
func (r *target) want(t testing.TB, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d messages at the target, has %q", len(want), r.all()), func() bool { return len(r.all()) >= len(want) })
	if got := r.all(); !slices.Equal(got, want) {
		t.Errorf("the target has %q, want %q", got, want)
	}
}

var quiet = slog.New(slog.DiscardHandler)

// forward starts a Forwarder and stops it at the end.
func forward(t testing.TB, box *outbox.Box, to transport.Transport, cfg outbox.ForwarderConfig) *outbox.Forwarder {
	t.Helper()
	f, err := outbox.NewForwarder(box, to, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopForwarder(t, f) })
	return f
}

func stopForwarder(t testing.TB, f *outbox.Forwarder) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Stop(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
}

// commit publishes events in a transaction of their own.
func (f *fixture) commit(t testing.TB, box *outbox.Box, events ...bus.Event) {
	t.Helper()
	tx := f.begin()
	if err := box.In(tx).Publish(t.Context(), events...); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
}

// order is an event of a key with an id.
func order(key string, n int) bus.Event { return bus.WithID(fmt.Sprint(key, n), placed{key, n}) }
