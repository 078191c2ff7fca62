package saga_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/internal/drive"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// TestOperator: commands from outside are carried out once, by one of several programs, or refused.
func TestOperator(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		var works atomic.Bool
		def := simple()
		def.Steps = append(def.Steps, saga.Step[order]{Name: "thank", Retry: saga.Retry{Attempts: 1},
			Do: func(context.Context, *saga.Run[order]) error {
				if !works.Load() {
					return errors.New("no paper")
				}
				return nil
			}})
		var p *program
		for range 2 {
			p = f.start(saga.Config{Sagas: []saga.Saga{def}}, nil)
		}
		keys := []string{"a", "b", "c", "d"}
		for _, key := range keys {
			p.publish(placed{key}, captured{key})
		}
		p.publish(placed{"waits"})
		p.untilStep("checkout", "waits", saga.Running, "charge")
		for _, key := range keys {
			p.until("checkout", key, saga.Stuck)
		}
		op := saga.NewOperator(f.open())
		list, err := op.List(t.Context(), saga.Filter{Status: saga.Stuck})
		if err != nil || len(list) != len(keys) || !strings.Contains(list[0].Error, "no paper") {
			t.Errorf("%+v, %v", list, err)
		}
		for want, err := range map[error]error{
			saga.ErrPivot:    op.Compensate(t.Context(), "checkout", "a"),
			saga.ErrNotStuck: op.Retry(t.Context(), "checkout", "waits"),
			saga.ErrNotFound: op.Retry(t.Context(), "checkout", "nobody"),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		works.Store(true)
		done := make(chan error, len(keys))
		for _, key := range keys {
			go func() { done <- op.Retry(t.Context(), "checkout", key) }()
		}
		for range keys {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		for _, key := range keys {
			p.until("checkout", key, saga.Completed)
			if story := p.story("checkout", key); strings.Count(story, "retried") != 1 {
				t.Errorf("%s: %s", key, story)
			}
		}
		if err := op.Compensate(t.Context(), "checkout", "waits"); err != nil {
			t.Error(err)
		}
		p.until("checkout", "waits", saga.Compensated)
		for _, command := range []func(context.Context, string, string) error{op.Retry, op.Skip, op.Compensate, op.Cancel} {
			if err := command(t.Context(), "checkout", "waits"); !errors.Is(err, saga.ErrEnded) {
				t.Errorf("for what has ended: %v", err)
			}
		}
		f.none("SELECT COUNT(*) FROM postbus_saga_command")
	})
}

// none fails unless a query counts nothing.
func (f *fixture) none(q string) {
	f.t.Helper()
	var n int
	if err := f.db.SQL().QueryRowContext(f.t.Context(), q).Scan(&n); err != nil || n != 0 {
		f.t.Errorf("%s: %d, %v", q, n, err)
	}
}

// TestOperatorAlone: what no program takes is withdrawn, and one that lacks the version can still cancel.
func TestOperatorAlone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	p, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{simple()}}, nil)
	p.publish(placed{"o1"}, placed{"o2"})
	p.untilStep("checkout", "o1", saga.Running, "charge")
	p.untilStep("checkout", "o2", saga.Running, "charge")
	stop()
	op := saga.NewOperator(f.open())
	nobody := func() {
		t.Helper()
		for d := 200 * time.Millisecond; ; d *= 4 { // until there is time to leave the command
			ctx, cancel := context.WithTimeout(t.Context(), d)
			err := op.Compensate(ctx, "checkout", "o1")
			cancel()
			if errors.Is(err, saga.ErrNobody) && errors.Is(err, context.DeadlineExceeded) {
				return
			}
			if err == nil || d > 10*time.Second {
				t.Fatal(err)
			}
		}
	}
	nobody()
	p = f.start(saga.Config{Sagas: []saga.Saga{version2()}}, nil)
	nobody()
	f.none("SELECT COUNT(*) FROM postbus_saga_command")
	if err := op.Cancel(t.Context(), "checkout", "o1"); err != nil {
		t.Error(err)
	}
	if i := p.until("checkout", "o1", saga.Cancelled); i.Ended.IsZero() || i.Step != "" {
		t.Errorf("%+v", i)
	}
	if i := p.untilStep("checkout", "o2", saga.Running, "charge"); i.Version != 1 {
		t.Errorf("it was touched: %+v", i)
	}
}

// TestOperatorLeavesNothing: a command that may be left, although there was an error, is withdrawn.
func TestOperatorLeavesNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	p, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{simple()}}, nil)
	p.publish(placed{"o1"})
	p.untilStep("checkout", "o1", saga.Running, "charge")
	stop()
	op := saga.NewOperator(f.open())
	f.exec("CREATE TRIGGER trouble AFTER INSERT ON postbus_saga_command BEGIN SELECT RAISE(FAIL, 'trouble'); END") // the row stays
	if err := op.Cancel(t.Context(), "checkout", "o1"); err == nil || !strings.Contains(err.Error(), "trouble") {
		t.Error(err)
	}
	f.none("SELECT COUNT(*) FROM postbus_saga_command")
	f.exec("DROP TRIGGER trouble")
	f.exec("CREATE TRIGGER trouble BEFORE INSERT ON postbus_saga_command BEGIN SELECT RAISE(ABORT, 'trouble'); END") // there is none
	if err := op.Cancel(t.Context(), "checkout", "o1"); err == nil || errors.Is(err, sql.ErrNoRows) {
		t.Error(err)
	}
}

// TestCancelledChild: also the end of a child that cannot be read is told to its parent.
func TestCancelledChild(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	child := deliveries()
	p := f.start(saga.Config{Sagas: []saga.Saga{withChild(child), child}}, nil)
	p.publish(placed{"o1"})
	p.untilStep("delivery", "d-o1", saga.Running, "hand-over")
	f.exec("UPDATE postbus_saga SET state = '7' WHERE saga = 'delivery'")
	if err := p.Cancel(t.Context(), "delivery", "d-o1"); err != nil {
		t.Fatal(err)
	}
	p.until("checkout", "o1", saga.Compensated)
	p.eventually("word to the parent", func() bool { return strings.HasSuffix(p.story("delivery", "d-o1"), "ended told:deliver") })
}

// TestRequestEndsEverywhere ends the process at each point of carrying a request out: it is carried out once.
func TestRequestEndsEverywhere(t *testing.T) {
	t.Parallel()

	points := 1
	for end := 0; end <= points; end++ {
		f := newFixture(t, store.SQLite)
		tr, err := openTransport(t.Context(), f.dialect, f.db)
		if err != nil {
			t.Fatal(err)
		}
		passed, crashed := -1000, false // until the request is there
		boot := func() (*saga.Orchestrator, drive.Driver) {
			b, err := bus.New(bus.Config{})
			if err != nil {
				t.Fatal(err)
			}
			o, err := saga.New(b, outbox.New(f.db, outbox.Config{Transport: tr}), saga.Config{Sagas: []saga.Saga{simple()}})
			if err != nil {
				t.Fatal(err)
			}
			return o, drive.Of(o, drive.Options{Clock: func() int64 { return time.Now().UnixMilli() }, Crash: func(string) {
				if passed++; passed == end {
					crashed = true
					panic(drive.Crash{})
				}
			}})
		}
		o, d := boot()
		if err := o.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := d.Handle(t.Context(), "saga.checkout", &transport.Message{ID: "1"}, 1, placed{"o1"}); err != nil {
			t.Fatal(err)
		}
		f.exec("INSERT INTO postbus_saga_command (id, saga, inst, command, until_ms) VALUES ('1', 'checkout', 'o1', 'cancel', 9000000000000)")
		passed = 0
		work := func() (more bool) {
			defer func() {
				if _, ok := recover().(drive.Crash); ok {
					o, d = boot()
					more = true
				}
			}()
			more, err := d.Due(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return more
		}
		for work() {
		}
		if end == 0 {
			points = passed
		} else if !crashed {
			t.Errorf("it did not end at point %d of %d", end, points)
		}
		if i, err := o.Get(t.Context(), "checkout", "o1"); err != nil || i.Status != saga.Cancelled {
			t.Errorf("ended at point %d: %+v, %v", end, i, err)
		}
		f.none("SELECT COUNT(*) FROM postbus_saga_command WHERE answer IS NULL OR answer <> 'done'")
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}
