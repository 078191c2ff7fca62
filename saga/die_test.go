package saga_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/internal/drive"
	"github.com/postbus/postbus/saga/sagatest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestStepThatEndsTheProcess: it is tried a few times, and then the saga is aborted.
func TestStepThatEndsTheProcess(t *testing.T) {
	t.Parallel()
	tries := 0
	def := simple()
	def.Steps[0].Retry.Attempts = 5
	def.Steps[0].Do = func(context.Context, *saga.Run[order]) error { tries++; panic(drive.Crash{}) }
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	if want := "started failed:reserve aborted:reserve undone:reserve ended"; story(p) != want || tries != 6 {
		t.Errorf("after %d tries: %s", tries, story(p))
	}
	if i := p.Instance("checkout", "o1"); !strings.Contains(i.Error, saga.ErrDied.Error()) {
		t.Errorf("%+v", i)
	}
}

func TestGoexitInDo(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Steps[0].Retry.Attempts = 2
	def.Steps[0].Do = func(context.Context, *saga.Run[order]) error { runtime.Goexit(); return nil }
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	p.Advance(time.Minute)
	if i := p.Instance("checkout", "o1"); i.Status != saga.Compensated || !strings.Contains(i.Error, "ended its goroutine") {
		t.Errorf("%+v", i)
	}
}

// TestOneTrace: whoever runs a step, what it publishes belongs to the message that started the instance.
func TestOneTrace(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	var mu sync.Mutex
	var seen []*transport.Message
	def := simple()
	def.Steps[0].Do = request
	def.Steps[1].Do = failing(1, request) // so that the poller runs the second attempt
	p := f.start(saga.Config{Sagas: []saga.Saga{def}}, func(b *bus.Bus, _ *outbox.Box) {
		bus.Handle(b, "watch", func(ctx context.Context, e ask) error {
			d, _ := bus.DeliveryFrom(ctx)
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, d.Message())
			return nil
		})
	})
	err := p.bus.Publish(bus.WithCorrelationID(t.Context(), "request-7"), bus.WithMetadata(map[string]string{"traceparent": trace}, placed{"o1"}))
	if err != nil {
		t.Fatal(err)
	}
	p.eventually("two requests", func() bool { mu.Lock(); defer mu.Unlock(); return len(seen) == 2 })
	for _, m := range seen {
		if m.CorrelationID != "request-7" || m.Metadata["traceparent"] != trace || m.CausationID == "" {
			t.Errorf("%+v", m)
		}
	}
}

// TestObserve: each transition is told of once, after its commit.
func TestObserve(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	var mu sync.Mutex
	type line struct {
		rev  int64
		word string
	}
	var told []line
	p := f.start(saga.Config{
		Sagas: []saga.Saga{simple()},
		Hooks: []saga.Hook{{}, {Observe: func(i saga.Instance, e saga.Entry) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, line{e.Rev, strings.Trim(string(e.Kind)+":"+e.Step, ":")})
			if i.Key != "o1" || e.Rev == 0 || e.At.IsZero() {
				t.Errorf("%+v %+v", i, e)
			}
		}}},
	}, payments)
	p.publish(placed{"o1"})
	p.until("checkout", "o1", saga.Completed)
	p.eventually("all entries", func() bool {
		mu.Lock()
		defer mu.Unlock()
		// What follows a commit, in another worker, may be told of first.
		slices.SortStableFunc(told, func(a, b line) int { return cmp.Compare(a.rev, b.rev) })
		var words []string
		for _, l := range told {
			words = append(words, l.word)
		}
		return strings.Join(words, " ") == p.story("checkout", "o1")
	})
}

func TestLifecycle(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	b, err := bus.New(bus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := saga.New(b, outbox.New(f.db, outbox.Config{}), saga.Config{Sagas: []saga.Saga{simple()}})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Stop(t.Context()); err != nil {
		t.Errorf("Stop before Start: %v", err)
	}
	if err := o.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := o.Start(t.Context()); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("a second Start: %v", err)
	}
	if err := errors.Join(o.Stop(t.Context()), o.Stop(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestNotStarted: events that come to an Orchestrator without Start make one warning.
func TestNotStarted(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	tr, err := openTransport(t.Context(), f.dialect, f.db)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	b, err := bus.New(bus.Config{Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	o, err := saga.New(b, outbox.New(f.db, outbox.Config{Transport: tr}), saga.Config{
		Sagas: []saga.Saga{simple()}, Logger: slog.New(slog.NewTextHandler(&said, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(o.Prepare(t.Context()), b.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), placed{"o1"}, placed{"o2"}); err != nil {
		t.Fatal(err)
	}
	p := &program{o, t, b, tr}
	p.untilStep("checkout", "o1", saga.Running, "charge")
	p.untilStep("checkout", "o2", saga.Running, "charge")
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), "was not started"); n != 1 {
		t.Errorf("%d warnings: %s", n, said.String())
	}
}
