package saga_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
	"github.com/postbus/postbus/store"
)

// TestCommands: each command of an operator, at each place.
func TestCommands(t *testing.T) {
	t.Parallel()
	const name, key = "checkout", "o1"
	retry := func(o *saga.Orchestrator) error { return o.Retry(context.Background(), name, key) }
	skip := func(o *saga.Orchestrator) error { return o.Skip(context.Background(), name, key) }
	compensate := func(o *saga.Orchestrator) error { return o.Compensate(context.Background(), name, key) }
	cancel := func(o *saga.Orchestrator) error { return o.Cancel(context.Background(), name, key) }
	type command = func(o *saga.Orchestrator) error
	// The places: waiting for the payment, stuck on the way back, stuck past the pivot, ended.
	waits := func(p *sagatest.Probe) { p.Publish(placed{key}) }
	back := func(p *sagatest.Probe) { p.Publish(placed{key}, declined{key}); p.Advance(time.Hour) }
	forward := func(p *sagatest.Probe) { p.Publish(placed{key}, captured{key}); p.Advance(time.Hour) }
	for label, tc := range map[string]struct {
		place   func(p *sagatest.Probe)
		command command
		err     error
		status  saga.Status
	}{
		"retry waiting":      {waits, retry, saga.ErrNotStuck, saga.Running},
		"skip waiting":       {waits, skip, saga.ErrNotStuck, saga.Running},
		"compensate waiting": {waits, compensate, nil, saga.Stuck},
		"cancel waiting":     {waits, cancel, nil, saga.Cancelled},
		"retry back":         {back, retry, nil, saga.Compensated},
		"skip back":          {back, skip, nil, saga.Compensated},
		"compensate back":    {back, compensate, nil, saga.Compensated},
		"cancel back":        {back, cancel, nil, saga.Cancelled},
		"retry forward":      {forward, retry, nil, saga.Completed},
		"skip forward":       {forward, skip, nil, saga.Completed},
		"compensate forward": {forward, compensate, saga.ErrPivot, saga.Stuck},
		"cancel forward":     {forward, cancel, nil, saga.Cancelled},
		"retry ended":        {func(p *sagatest.Probe) { waits(p); p.Do(cancel) }, retry, saga.ErrEnded, saga.Cancelled},
		"skip ended":         {func(p *sagatest.Probe) { waits(p); p.Do(cancel) }, skip, saga.ErrEnded, saga.Cancelled},
		"compensate ended":   {func(p *sagatest.Probe) { waits(p); p.Do(cancel) }, compensate, saga.ErrEnded, saga.Cancelled},
		"cancel ended":       {func(p *sagatest.Probe) { waits(p); p.Do(cancel) }, cancel, saga.ErrEnded, saga.Cancelled},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			def := simple()
			def.Steps = append(def.Steps, saga.Step[order]{Name: "thank", Do: failing(3, mark("thank")), Retry: saga.Retry{Attempts: 3}})
			def.Steps[1].Undo, def.Steps[1].Retry = failing(3, mark("refund")), saga.Retry{Attempts: 3}
			p := sagatest.New(t, def)
			tc.place(p)
			if err := tc.command(p.Orchestrator()); !errors.Is(err, tc.err) {
				t.Errorf("error %v, want %v", err, tc.err)
			}
			p.Advance(10 * time.Second)
			if i := p.Instance(name, key); i.Status != tc.status {
				t.Errorf("%s, want %s: %s", i.Status, tc.status, story(p))
			}
		})
	}
	p := sagatest.New(t, simple())
	for _, c := range []command{retry, skip, compensate, cancel} {
		if err := c(p.Orchestrator()); !errors.Is(err, saga.ErrNotFound) {
			t.Errorf("without an instance: %v", err)
		}
	}
}

func TestList(t *testing.T) {
	t.Parallel()
	p := sagatest.New(t, simple())
	p.Publish(placed{"a"}, placed{"b"}, captured{"b"})
	p.Advance(time.Minute)
	p.Publish(placed{"c"})
	keys := func(f saga.Filter) string {
		list, err := p.Orchestrator().List(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, i := range list {
			all = append(all, i.Key)
		}
		return strings.Join(all, " ")
	}
	for want, f := range map[string]saga.Filter{
		"a b c": {Saga: "checkout"},
		"a c":   {Status: saga.Running},
		"b":     {Status: saga.Completed},
		"":      {Saga: "other"},
		"a":     {Step: "charge", Before: p.Now()},
		"b c":   {After: saga.Instance{Saga: "checkout", Key: "a"}},
		"a b":   {Limit: 2},
	} {
		if got := keys(f); got != want {
			t.Errorf("%+v: %q, want %q", f, got, want)
		}
	}
	counts, err := p.Orchestrator().Counts(t.Context())
	if err != nil || len(counts) != 1 || counts[0].N != 2 || !counts[0].Known || counts[0].Status != saga.Running {
		t.Errorf("counts %+v, %v", counts, err)
	}
}

// TestBadInput: what comes from outside and what is in the table.
func TestBadInput(t *testing.T) {
	t.Parallel()
	t.Run("keys", func(t *testing.T) {
		t.Parallel()
		p := sagatest.New(t, simple())
		for _, key := range []string{"", strings.Repeat("x", 256), "a\x00b", "\xff"} {
			p.Publish(placed{key}, captured{key})
		}
		if n := len(p.Failed()); n != 8 {
			t.Errorf("%d failed, want 8: %v", n, p.Failed())
		}
		long := strings.Repeat("x", 255)
		p.Publish(placed{long}, captured{long})
		if i := p.Instance("checkout", long); i.Status != saga.Completed {
			t.Errorf("%+v", i)
		}
	})
	t.Run("panics", func(t *testing.T) {
		t.Parallel()
		def := simple()
		def.Start = saga.StartOn(func(e placed) (string, order) { panic("no start") })
		p := sagatest.New(t, def)
		p.Publish(placed{"o1"})
		if len(p.Failed()) != 1 || !errors.Is(p.Failed()[0], saga.ErrPanic) || !bus.IsPermanent(p.Failed()[0]) {
			t.Errorf("failed: %v", p.Failed())
		}
	})
	t.Run("a reply that cannot be applied", func(t *testing.T) {
		t.Parallel()
		def := simple()
		def.Steps[1].Await = saga.Replies(saga.Continue(func(o *order, e captured) error { o.Note = "x"; return errors.New("no") }))
		p := sagatest.New(t, def)
		p.Publish(placed{"o1"}, captured{"o1"})
		p.Advance(time.Minute)
		if i := p.Instance("checkout", "o1"); len(p.Failed()) != 1 || i.Step != "charge" || strings.Contains(string(i.State), "x") {
			t.Errorf("failed: %v; %+v", p.Failed(), i)
		}
	})
	t.Run("a Do that never returns", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, store.SQLite)
		release := make(chan struct{})
		t.Cleanup(func() { close(release) })
		def := simple()
		def.Steps[0].Retry.Attempts = 2
		def.Steps[0].Do = func(context.Context, *saga.Run[order]) error { <-release; return nil }
		p := f.start(saga.Config{Sagas: []saga.Saga{def}, AttemptTimeout: 500 * time.Millisecond}, nil)
		p.publish(placed{"o1"})
		i := p.until("checkout", "o1", saga.Compensated)
		if !strings.Contains(i.Error, "timed out") {
			t.Errorf("%+v", i)
		}
	})
	for label, tc := range map[string]struct{ set, error string }{
		"state": {`state = '{"ID":7}'`, "state cannot be decoded"},
		"step":  {`progress = '{"at":"gone","leaves":[{"name":"gone","phase":"do","due":1}]}'`, `no such step in the definition: "gone"`},
	} {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, store.SQLite)
			def := simple()
			p := f.start(saga.Config{Sagas: []saga.Saga{def}}, nil)
			p.publish(placed{"o1"})
			p.untilStep("checkout", "o1", saga.Running, "charge")
			f.exec("UPDATE postbus_saga SET due_ms = 1, " + tc.set)
			i := p.until("checkout", "o1", saga.Stuck)
			if !strings.Contains(i.Error, tc.error) {
				t.Errorf("%+v", i)
			}
			if err := p.Retry(t.Context(), "checkout", "o1"); err == nil {
				t.Error("it was tried again")
			}
			if err := p.Cancel(t.Context(), "checkout", "o1"); err != nil {
				t.Error(err)
			}
			p.until("checkout", "o1", saga.Cancelled)
		})
	}
	t.Run("unknown saga and version", func(t *testing.T) {
		t.Parallel()
		f := newFixture(t, store.SQLite)
		p := f.start(saga.Config{Sagas: []saga.Saga{simple()}}, nil)
		p.publish(placed{"o1"}, placed{"o2"})
		p.untilStep("checkout", "o1", saga.Running, "charge")
		p.untilStep("checkout", "o2", saga.Running, "charge")
		f.exec("UPDATE postbus_saga SET due_ms = 1, saga = 'gone' WHERE inst = 'o1'")
		f.exec("UPDATE postbus_saga SET due_ms = 1, version = 9 WHERE inst = 'o2'")
		p.publish(placed{"o3"}, captured{"o2"}, captured{"o3"})
		p.until("checkout", "o3", saga.Completed)
		counts, err := p.Counts(t.Context())
		if err != nil || len(counts) != 2 || counts[0].Known || counts[1].Known {
			t.Errorf("counts %+v, %v", counts, err)
		}
		if i := p.untilStep("checkout", "o2", saga.Running, "charge"); i.Version != 9 {
			t.Errorf("it was touched: %+v", i)
		}
	})
}

// TestChildWithABadKey: the saga is aborted, and no row is made.
func TestChildWithABadKey(t *testing.T) {
	t.Parallel()
	child := deliveries()
	def := withChild(child)
	def.Steps[1].Child = saga.StartChild(child, func(*order) (string, delivery) { return strings.Repeat("x", 256), delivery{} }, nil)
	p := sagatest.New(t, def, child)
	p.Publish(placed{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Compensated || !strings.Contains(i.Error, "256 bytes, 255 are allowed") {
		t.Errorf("%+v: %s", i, story(p))
	}
}
