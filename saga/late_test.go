package saga_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/internal/drive"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestReplyBeforeALatePoller: what decides between a reply and a timeout is the clock, not who comes first.
func TestReplyBeforeALatePoller(t *testing.T) {
	t.Parallel()
	def := simple()
	d := newFixture(t, store.SQLite).drive(def, nil)
	d.handle(placed{"o1"})
	d.now += def.Steps[1].Timeout.Milliseconds()
	d.handle(captured{"o1"}) // the poller has not looked
	if i := d.instance(); i.Status != saga.Compensated {
		t.Errorf("%+v", i)
	}
}

// driven is an orchestrator whose messages, poller and clock are in the hands of the test.
type driven struct {
	t       testing.TB
	o       *saga.Orchestrator
	driver  drive.Driver
	now     int64
	handled int
}

// drive makes a driven of def, which calls at, if there is one, at each point where a process can end.
func (f *fixture) drive(def saga.Saga, at func(d *driven, point string)) *driven {
	f.t.Helper()
	tr, err := openTransport(f.t.Context(), f.dialect, f.db)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = tr.Close() })
	b, err := bus.New(bus.Config{})
	if err != nil {
		f.t.Fatal(err)
	}
	o, err := saga.New(b, outbox.New(f.db, outbox.Config{Transport: tr}), saga.Config{Sagas: []saga.Saga{def}})
	if err != nil {
		f.t.Fatal(err)
	}
	d := &driven{t: f.t, o: o, now: time.Now().UnixMilli()}
	d.driver = drive.Of(o, drive.Options{Clock: func() int64 { return d.now }, Crash: func(point string) {
		if at != nil {
			at(d, point)
		}
	}})
	if err := o.Prepare(f.t.Context()); err != nil {
		f.t.Fatal(err)
	}
	return d
}

func (d *driven) handle(e bus.Event) {
	d.t.Helper()
	d.handled++
	m := &transport.Message{ID: strconv.Itoa(d.handled), Name: e.EventName()}
	if err := d.driver.Handle(d.t.Context(), "saga.checkout", m, 1, e); err != nil {
		d.t.Fatal(err)
	}
}

// instance returns the instance "o1".
func (d *driven) instance() saga.Instance {
	d.t.Helper()
	i, err := d.o.Get(d.t.Context(), "checkout", "o1")
	if err != nil {
		d.t.Fatal(err)
	}
	return i
}

// TestLateTimeout: a timeout that was picked up before a reply, and is looked at after it, finds its step gone.
func TestLateTimeout(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Steps[2].Timeout = time.Minute // of the same length as that of the step before, so that only the step tells them apart
	def.Steps[1].Timeout = time.Minute
	def.Steps[2].Await = saga.Replies(saga.Continue(func(*order, packed) error { return nil }))
	picked := false
	d := newFixture(t, store.SQLite).drive(def, func(d *driven, point string) {
		if point == "claimed" && !picked {
			picked = true
			d.now-- // the clock of the process that has the reply
			d.handle(captured{"o1"})
			d.now++
		}
	})
	d.handle(placed{"o1"})
	d.now += time.Minute.Milliseconds()
	if due, err := d.driver.Due(t.Context()); err != nil || !due || !picked {
		t.Fatalf("nothing was due: %v", err)
	}
	if i := d.instance(); i.Status != saga.Running || i.Step != "ship" {
		t.Errorf("%+v", i)
	}
}

// TestConnectionLostAtCommit: what the database has not refused is no failure of the step.
func TestConnectionLostAtCommit(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Postgres)
	tr, err := openTransport(t.Context(), f.dialect, f.db)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	pid, killed := 0, false
	def := simple()
	def.Steps[0].Retry.Attempts = 1
	def.Steps[0].Do = func(ctx context.Context, r *saga.Run[order]) error {
		return r.Tx().QueryRowContext(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	}
	b, err := bus.New(bus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	o, err := saga.New(b, outbox.New(f.db, outbox.Config{Transport: tr, Logger: quiet}), saga.Config{Sagas: []saga.Saga{def}, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	d := drive.Of(o, drive.Options{Clock: func() int64 { return time.Now().UnixMilli() }, Crash: func(point string) {
		if point != "commit" || pid == 0 || killed {
			return
		}
		killed = true
		for gone, deadline := false, time.Now().Add(patience); !gone; time.Sleep(time.Millisecond) {
			q := "SELECT COUNT(pg_terminate_backend(pid)) = 0 FROM pg_stat_activity WHERE pid = $1"
			if err := f.db.SQL().QueryRowContext(t.Context(), q, pid).Scan(&gone); err != nil || time.Now().After(deadline) {
				t.Fatalf("the connection is not gone: %v", err)
			}
		}
	}})
	if err := o.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := d.Handle(t.Context(), "saga.checkout", &transport.Message{ID: "1"}, 1, placed{"o1"}); err != nil {
		t.Fatal(err)
	}
	for more := true; more; {
		if more, err = d.Due(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	i, err := o.Get(t.Context(), "checkout", "o1")
	if err != nil || i.Status != saga.Running || i.Step != "charge" || !killed {
		t.Errorf("%+v, %v", i, err)
	}
}
