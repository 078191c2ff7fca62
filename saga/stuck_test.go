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

// TestReplyWhileStuck: what an instance is stuck at may come after all, and then nobody is needed.
func TestReplyWhileStuck(t *testing.T) {
	t.Parallel()
	def := saga.Definition[order]{Name: "checkout", Start: begin, Steps: []saga.Step[order]{
		{Name: "decide", Do: mark("decide"), Pivot: true},
		{Name: "charge", Do: request, Timeout: time.Minute, Retry: saga.Retry{Attempts: 1},
			Await: saga.Replies(saga.Continue(func(*order, captured) error { return nil }))},
		{Name: "pack", Timeout: time.Minute, Await: saga.Replies(saga.Continue(func(*order, packed) error { return nil }))},
	}}
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	p.Advance(2 * time.Minute)
	if i := p.Instance("checkout", "o1"); i.Status != saga.Stuck {
		t.Fatalf("%+v", i)
	}
	p.Publish(captured{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Running || i.Step != "pack" || i.Error != "" {
		t.Errorf("after the reply: %+v", i)
	}
	if err := p.Orchestrator().Skip(t.Context(), "checkout", "o1"); !errors.Is(err, saga.ErrNotStuck) {
		t.Errorf("a Skip of what is done: %v", err)
	}
	p.Publish(packed{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Completed {
		t.Errorf("%+v: %s", i, story(p))
	}
	sagatest.Replay(t, def, p.Journal("checkout", "o1"))
}

// TestChildThatIsGone: what nobody can undo is not taken for undone.
func TestChildThatIsGone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]string{
		"tombstone": "UPDATE postbus_saga SET rev = 0, state = '', progress = '{}', ended_ms = -9000000000000000 WHERE saga = 'delivery'",
		"nothing":   "DELETE FROM postbus_saga WHERE saga = 'delivery'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, store.SQLite)
			child := deliveries()
			def := withChild(child, saga.Step[order]{Name: "charge", Await: payment, Timeout: time.Hour})
			p := f.start(saga.Config{Sagas: []saga.Saga{def, child}}, nil)
			p.publish(placed{"o1"})
			p.until("delivery", "d-o1", saga.Running)
			p.publish(packed{"d-o1"})
			p.untilStep("checkout", "o1", saga.Running, "charge")
			f.exec(change)
			p.publish(declined{"o1"})
			if i := p.untilStep("checkout", "o1", saga.Stuck, "deliver"); !strings.Contains(i.Error, `"d-o1"`) {
				t.Errorf("%+v", i)
			}
			if err := p.Skip(t.Context(), "checkout", "o1"); err != nil { // a person has seen to it
				t.Error(err)
			}
			p.until("checkout", "o1", saga.Compensated)
		})
	}
}

// TestUnreadable: an instance that a reply finds unreadable is stuck, and the reply is set aside; one that has ended needs
// neither.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	refused := make(chan error, 10)
	p := f.start(saga.Config{Sagas: []saga.Saga{simple()}}, nil, func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			err := next(ctx, d)
			if bus.IsPermanent(err) {
				refused <- err
				return nil
			}
			return err
		}
	})
	p.publish(placed{"o1"}, placed{"o2"})
	p.untilStep("checkout", "o1", saga.Running, "charge")
	p.untilStep("checkout", "o2", saga.Running, "charge")
	p.publish(captured{"o2"})
	p.until("checkout", "o2", saga.Completed)
	p.eventually("request of o1", func() bool { return p.story("checkout", "o1") == "started done:reserve done:charge" })
	f.exec("UPDATE postbus_saga SET state = '7'")
	p.publish(declined{"o2"}, captured{"o1"})
	if i := p.until("checkout", "o1", saga.Stuck); !strings.Contains(i.Error, "cannot be decoded") || i.Step != "charge" {
		t.Errorf("%+v", i)
	}
	if err := <-refused; !errors.Is(err, saga.ErrState) || !strings.Contains(err.Error(), "o1") {
		t.Errorf("refused with %v", err)
	}
	if got := p.story("checkout", "o1"); got != "started done:reserve done:charge stuck:charge" {
		t.Errorf("journal %q", got)
	}
	if i, err := p.Get(t.Context(), "checkout", "o2"); err != nil || i.Status != saga.Completed {
		t.Errorf("%+v, %v", i, err)
	}
	if err := p.Retry(t.Context(), "checkout", "o2"); !errors.Is(err, saga.ErrEnded) {
		t.Errorf("a command for what has ended: %v", err)
	}
	f.exec(`UPDATE postbus_saga SET state = '{"ID":"o1","Done":["reserve"]}' WHERE inst = 'o1'`) // it can be read again
	if err := p.Retry(t.Context(), "checkout", "o1"); err != nil {
		t.Error(err)
	}
	p.publish(captured{"o1"})
	p.until("checkout", "o1", saga.Completed)
	entries, err := p.Journal(t.Context(), "checkout", "o1")
	if err != nil {
		t.Fatal(err)
	}
	sagatest.Replay(t, simple(), entries)
}

// TestWhatCannotBeCommitted: a step is tried as often as it says, also where it does not tell that it has failed.
func TestWhatCannotBeCommitted(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		def := simple()
		def.Steps[0].Retry = saga.Retry{Attempts: 2, MaxBackoff: time.Millisecond}
		def.Steps[0].Do = func(ctx context.Context, r *saga.Run[order]) error {
			_, _ = r.Tx().ExecContext(ctx, "INSERT INTO nowhere VALUES (1)")
			return nil
		}
		p := f.start(saga.Config{Sagas: []saga.Saga{def}}, nil)
		p.publish(placed{"o1"})
		p.until("checkout", "o1", saga.Compensated)
		if got, want := p.story("checkout", "o1"), "started failed:reserve failed:reserve aborted:reserve undone:reserve ended"; got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
}

// TestCommitFails: that it does is a failure of the step, too.
func TestCommitFails(t *testing.T) {
	t.Parallel()
	for _, d := range []store.Dialect{store.Postgres, store.SQLite} { // MySQL looks at constraints at once
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, d)
			f.exec("CREATE TABLE parents (id varchar(9) PRIMARY KEY)")
			f.exec("CREATE TABLE children (id varchar(9) REFERENCES parents DEFERRABLE INITIALLY DEFERRED)")
			commitFails(t, f)
		})
	}
}

func commitFails(t *testing.T, f *fixture) {
	for _, local := range []bool{false, true} {
		def := simple()
		def.Steps = def.Steps[:1:1]
		def.Steps = append(def.Steps, saga.Step[order]{Name: "adopt", Do: func(ctx context.Context, r *saga.Run[order]) error {
			_, err := r.Tx().ExecContext(ctx, "INSERT INTO children VALUES ('x')")
			return err
		}}, saga.Step[order]{Name: "last", Do: mark("last")})
		for i := range def.Steps {
			def.Steps[i].Local, def.Steps[i].Retry = local, saga.Retry{Attempts: 2, MaxBackoff: time.Millisecond}
		}
		p, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{def}}, nil)
		key := map[bool]string{false: "o1", true: "o2"}[local]
		p.publish(placed{key})
		i := p.until("checkout", key, saga.Compensated)
		if !strings.Contains(i.Error, `step "adopt"`) && !strings.Contains(i.Error, `step "last"`) {
			t.Errorf("%+v", i)
		}
		stop()
	}
}

// TestStopIsNoAttempt: a process that stops within a step has not been ended by it.
func TestStopIsNoAttempt(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.Postgres) // whose other rows are not locked meanwhile
	var p *program
	for i := range 3 {
		begun := make(chan struct{}, 10)
		def := simple()
		def.Steps[0].Do = func(ctx context.Context, _ *saga.Run[order]) error {
			begun <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}
		p, _ = f.startStoppable(saga.Config{Sagas: []saga.Saga{def}}, nil)
		if i == 0 {
			p.publish(placed{"o1"})
		}
		<-begun
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		_ = p.stop(ctx) // which may have no time to see the attempt end
		cancel()
		if err := p.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		f.exec("UPDATE postbus_saga SET due_ms = 1")
	}
	var claims int
	if err := f.db.SQL().QueryRow("SELECT claims FROM postbus_saga").Scan(&claims); err != nil || claims != 0 {
		t.Errorf("%d attempts ended their process: %v", claims, err)
	}
	if got := p.story("checkout", "o1"); got != "started" {
		t.Errorf("journal %q", got)
	}
}
