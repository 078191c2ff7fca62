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
	f := newFixture(t, store.SQLite)
	def := simple()
	def.Steps[1].Timeout = 200 * time.Millisecond
	p := f.start(saga.Config{Sagas: []saga.Saga{def}, PollInterval: time.Hour}, nil)
	p.publish(placed{"o1"})
	p.untilStep("checkout", "o1", saga.Running, "charge")
	f.exec("UPDATE postbus_saga SET due_ms = NULL") // no poller finds it
	due := time.Now().Add(def.Steps[1].Timeout)
	p.eventually("timeout", func() bool { return time.Now().After(due) })
	p.publish(captured{"o1"})
	p.until("checkout", "o1", saga.Compensated)
}

// TestLateTimeout: a timeout that was picked up before a reply, and is looked at after it, finds its step gone.
func TestLateTimeout(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	tr, err := openTransport(t.Context(), f.dialect, f.db)
	if err != nil {
		t.Fatal(err)
	}
	defer tr.Close()
	def := simple()
	def.Steps[2].Timeout = time.Minute // of the same length as that of the step before, so that only the step tells them apart
	def.Steps[1].Timeout = time.Minute
	def.Steps[2].Await = saga.Replies(saga.Continue(func(*order, packed) error { return nil }))
	b, err := bus.New(bus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := saga.New(b, outbox.New(f.db, outbox.Config{Transport: tr}), saga.Config{Sagas: []saga.Saga{def}})
	if err != nil {
		t.Fatal(err)
	}
	var d drive.Driver
	now, picked, handled := time.Now().UnixMilli(), false, 0
	handle := func(e bus.Event) {
		handled++
		m := &transport.Message{ID: strconv.Itoa(handled), Name: e.EventName()}
		if err := d.Handle(t.Context(), "saga.checkout", m, 1, e); err != nil {
			t.Fatal(err)
		}
	}
	d = drive.Of(o, drive.Options{Clock: func() int64 { return now }, Crash: func(point string) {
		if point == "claimed" && !picked {
			picked = true
			now-- // the clock of the process that has the reply
			handle(captured{"o1"})
			now++
		}
	}})
	if err := o.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	handle(placed{"o1"})
	now += time.Minute.Milliseconds()
	if due, err := d.Due(t.Context()); err != nil || !due || !picked {
		t.Fatalf("nothing was due: %v", err)
	}
	i, err := o.Get(t.Context(), "checkout", "o1")
	if err != nil || i.Status != saga.Running || i.Step != "ship" {
		t.Errorf("%+v, %v", i, err)
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
