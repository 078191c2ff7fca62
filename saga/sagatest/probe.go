// Package sagatest tests sagas without a server, without a bus and without waiting: what is published is handled at once,
// and time passes when the test says so.
//
//	p := sagatest.New(t, Checkout)
//	p.Publish(orders.Placed{ID: "o1"})
//	p.Advance(15 * time.Minute) // the payment never answers
//	if i := p.Instance("checkout", "o1"); i.Status != saga.Compensated { … }
//	if got := sagatest.Published[payments.Refund](p); len(got) != 1 { … }
//
// [Everywhere] runs such a test again and again, ending the process at each point where one can end, and [Replay] holds
// journals of production against the definitions of today.
package sagatest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/internal/drive"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Probe is an orchestrator on an SQLite database of the test's own, in the hands of the test. It is used by the test's own
// goroutine.
type Probe struct {
	t     testing.TB
	sagas []saga.Saga
	db    *store.DB
	now   int64 // ms since 1970

	orchestrator *saga.Orchestrator
	driver       drive.Driver

	queue  []*letter
	serial int
	failed []error

	points  int    // passed so far
	crashAt int    // 0 for never
	crashed string // where it did
}

// letter is an event on its way to one group.
type letter struct {
	group   string
	message *transport.Message
	event   bus.Event
	attempt int
	due     int64
}

// attempts is how often a message is tried whose handling fails.
const attempts = 10

// New makes a Probe, which ends with the test.
func New(t testing.TB, sagas ...saga.Saga) *Probe {
	t.Helper()
	p := &Probe{t: t, sagas: sagas, now: time.Now().UnixMilli()}
	file := filepath.Join(t.TempDir(), "saga.db")
	empty, err := template()
	if err == nil {
		err = os.WriteFile(file, empty, 0o600)
	}
	if err == nil {
		p.db, err = store.Open(t.Context(), "sqlite:"+file+"?synchronous=off")
	}
	if err != nil {
		t.Fatalf("sagatest: %v", err)
	}
	t.Cleanup(func() { _ = p.db.Close() })
	p.boot()
	return p
}

// template returns the file of a database with all tables and no rows: making them takes longer than most tests.
var template = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "sagatest")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx, file := context.Background(), filepath.Join(dir, "saga.db")
	db, err := store.Open(ctx, "sqlite:"+file+"?synchronous=off")
	if err != nil {
		return nil, err
	}
	err = prepare(ctx, db)
	if err == nil {
		err = drive.Prepare(ctx, outbox.New(db, outbox.Config{Transport: recorder{}}))
	}
	if err = errors.Join(err, db.Close()); err != nil {
		return nil, err
	}
	return os.ReadFile(file)
})

// boot starts a process: all that is in memory is new.
func (p *Probe) boot() {
	p.t.Helper()
	b, err := bus.New(bus.Config{})
	if err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	logger := slog.New(slog.NewTextHandler(output{p.t}, nil))
	box := outbox.New(p.db, outbox.Config{Transport: recorder{}, Logger: logger})
	p.orchestrator, err = saga.New(b, box, saga.Config{Sagas: p.sagas, Logger: logger})
	if err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	p.driver = drive.Of(p.orchestrator, drive.Options{Clock: func() int64 { return p.now }, Crash: p.at})
}

// Publish brings events to the sagas, one after the other, and works on all that is due then. A message that is not for
// now comes again when the clock has moved; see Advance.
func (p *Probe) Publish(events ...bus.Event) {
	p.t.Helper()
	for _, e := range events {
		p.serial++
		m := &transport.Message{ID: fmt.Sprintf("message-%d", p.serial), Name: e.EventName(), Time: time.UnixMilli(p.now)}
		p.deliver(m, e)
	}
}

// Redeliver brings the last event that was published once more, as the same message.
func (p *Probe) Redeliver(e bus.Event) {
	p.t.Helper()
	p.deliver(&transport.Message{ID: fmt.Sprintf("message-%d", p.serial), Name: e.EventName(), Time: time.UnixMilli(p.now)}, e)
}

func (p *Probe) deliver(m *transport.Message, e bus.Event) {
	p.t.Helper()
	groups := p.driver.Groups(e)
	if len(groups) == 0 {
		p.t.Fatalf("sagatest: no saga takes %q", e.EventName())
	}
	for _, group := range groups {
		p.queue = append(p.queue, &letter{group, m, e, 1, p.now})
	}
	p.settle()
}

// Advance moves the clock by d, and works on all that comes due meanwhile, in its order.
func (p *Probe) Advance(d time.Duration) {
	p.t.Helper()
	p.settle()
	end := p.now + d.Milliseconds()
	for {
		next, err := p.driver.Next(p.t.Context())
		if err != nil {
			p.t.Fatalf("sagatest: %v", err)
		}
		for _, l := range p.queue {
			if next == 0 || l.due < next {
				next = l.due
			}
		}
		if next == 0 || next > end {
			break
		}
		p.now = max(p.now, next)
		if p.settle(); p.t.Failed() {
			return
		}
	}
	p.now = end
}

// Orchestrator returns the orchestrator, for the commands of an operator. It must not be started.
func (p *Probe) Orchestrator() *saga.Orchestrator { return p.orchestrator }

// Failed returns the errors of messages that could not be handled: at once if they are permanent, or after ten attempts.
func (p *Probe) Failed() []error { return p.failed }

// Instance returns an instance. The test ends if there is none.
func (p *Probe) Instance(name, key string) saga.Instance {
	p.t.Helper()
	i, err := p.orchestrator.Get(p.t.Context(), name, key)
	if err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	return i
}

// Journal returns the journal of an instance.
func (p *Probe) Journal(name, key string) []saga.Entry {
	p.t.Helper()
	entries, err := p.orchestrator.Journal(p.t.Context(), name, key)
	if err != nil {
		p.t.Fatalf("sagatest: %v", err)
	}
	return entries
}

// mostSteps bounds the work on what is due at one time.
const mostSteps = 10_000

// settle works on all that is due now.
func (p *Probe) settle() {
	p.t.Helper()
	for range mostSteps {
		if !p.step() {
			return
		}
	}
	p.t.Fatalf("sagatest: there is no end to what is due at one time")
}

// step does one thing that is due, and reports whether there was any. A crash within it begins a new process.
func (p *Probe) step() (more bool) {
	p.t.Helper()
	defer p.reboot(&more)
	for i, l := range p.queue {
		if l.due > p.now {
			continue
		}
		err := p.driver.Handle(p.t.Context(), l.group, l.message, l.attempt, l.event)
		pause, later := bus.RetryDelay(err)
		if !later {
			pause = time.Second
		}
		switch {
		case err != nil && !bus.IsPermanent(err) && l.attempt < attempts:
			l.attempt++
			l.due = p.now + pause.Milliseconds()
			return true
		case err != nil:
			p.failed = append(p.failed, err)
		}
		p.queue = append(p.queue[:i:i], p.queue[i+1:]...)
		return true
	}
	more, err := p.driver.Due(p.t.Context())
	if err != nil && !errors.Is(err, context.Canceled) {
		p.t.Errorf("sagatest: %v", err)
	}
	return more && err == nil
}

// reboot is deferred: after a crash it begins a new process, and says so.
func (p *Probe) reboot(crashed *bool) {
	switch c := recover().(type) {
	case nil:
	case drive.Crash:
		p.crashed, p.crashAt, *crashed = c.Point, 0, true
		p.boot()
	default:
		panic(c)
	}
}

// at counts the points at which a process can end, and ends it at one.
func (p *Probe) at(point string) {
	p.points++
	if p.points == p.crashAt {
		panic(drive.Crash{Point: point})
	}
}

// output is the log of a test.
type output struct{ t testing.TB }

func (o output) Write(b []byte) (int, error) {
	if testing.Verbose() {
		return o.t.Output().Write(b)
	}
	return len(b), nil
}

var _ io.Writer = output{}

// Do runs a command of an operator, and what follows from it. The test fails if it returns an error.
func (p *Probe) Do(command func(o *saga.Orchestrator) error) {
	p.t.Helper()
	if p.command(command, true) {
		p.command(command, false) // the process has ended within it, and the operator tries once more: it may be done
	}
	p.settle()
}

func (p *Probe) command(command func(o *saga.Orchestrator) error, must bool) (again bool) {
	p.t.Helper()
	defer p.reboot(&again)
	if err := command(p.orchestrator); err != nil && must {
		p.t.Errorf("sagatest: %v", err)
	}
	return false
}
