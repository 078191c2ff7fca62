package saga_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport/memory"
)

// orderV2 is the state of version 2.
type orderV2 struct {
	ID   string
	Note []string
}

func version2() saga.Definition[orderV2] {
	nothing := func(context.Context, *saga.Run[orderV2]) error { return nil }
	return saga.Definition[orderV2]{
		Name: "checkout", Version: 2,
		Start: saga.StartOn(func(e placed) (string, orderV2) { return e.ID, orderV2{ID: e.ID} }),
		Steps: []saga.Step[orderV2]{
			{Name: "check", Do: nothing},
			{Name: "reserve", Do: nothing},
			{Name: "charge", Do: nothing, Timeout: time.Hour, Await: saga.Replies(
				saga.Continue(func(o *orderV2, e captured) error { o.Note = append(o.Note, "paid"); return nil }))},
			{Name: "ship", Do: nothing, Pivot: true},
		},
	}
}

// TestVersions: instances stay on their version, side by side with newer ones, until they are moved on purpose.
func TestVersions(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		v1 := simple()
		old, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{v1}}, nil)
		old.publish(placed{"a"}, placed{"b"}, placed{"c"})
		for _, key := range []string{"a", "b", "c"} {
			old.untilStep("checkout", key, saga.Running, "charge")
		}
		stop()

		p, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{v1, version2()}}, nil)
		p.publish(captured{"a"}, placed{"d"}, captured{"d"})
		if a, d := p.until("checkout", "a", saga.Completed), p.until("checkout", "d", saga.Completed); a.Version != 1 || d.Version != 2 {
			t.Errorf("versions %d and %d", a.Version, d.Version)
		}
		stop()

		p, stop = f.startStoppable(saga.Config{Sagas: []saga.Saga{version2()}}, nil)
		defer stop()
		moved, err := saga.Migrate(t.Context(), p.Orchestrator, "checkout", 1, 2, func(o order) (orderV2, error) {
			if o.ID == "b" {
				return orderV2{}, errors.New("not this one")
			}
			return orderV2{o.ID, o.Done}, nil
		})
		if moved != 1 || err == nil || !strings.Contains(err.Error(), `migrate "b": not this one`) {
			t.Errorf("%d were moved: %v", moved, err)
		}
		p.publish(captured{"c"})
		if i := p.until("checkout", "c", saga.Completed); string(i.State) != `{"ID":"c","Note":["reserve","paid"]}` {
			t.Errorf("%+v", i)
		}
		if i := p.untilStep("checkout", "b", saga.Running, "charge"); i.Version != 1 {
			t.Errorf("%+v", i)
		}
	})
}

// lines is a log that is written to and read at once.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestVersionThatIsMissing: a program without the version of an instance leaves it as it is, and says so.
func TestVersionThatIsMissing(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	old, stop := f.startStoppable(saga.Config{Sagas: []saga.Saga{simple()}}, nil)
	old.publish(placed{"a"})
	old.untilStep("checkout", "a", saga.Running, "charge")
	stop()
	before, err := old.Get(t.Context(), "checkout", "a")
	if err != nil {
		t.Fatal(err)
	}

	log := &lines{}
	logger := slog.New(slog.NewTextHandler(log, nil))
	db := f.open()
	b, err := bus.New(bus.Config{Transport: memory.New(memory.Config{}), Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	o, err := saga.New(b, outbox.New(db, outbox.Config{Logger: logger}), saga.Config{Sagas: []saga.Saga{version2()}, Logger: logger})
	if err != nil {
		t.Fatal(err)
	}
	if err := o.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := o.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	const want = "has no definition for instances that are in the database, and leaves them\" saga=checkout version=1 status=running instances=1"
	for deadline := time.Now().Add(patience); !strings.Contains(log.String(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("nothing is reported: %s", log)
		}
	}
	if after, err := o.Get(t.Context(), "checkout", "a"); err != nil || !reflect.DeepEqual(after, before) {
		t.Errorf("it was %+v, and is %+v: %v", before, after, err)
	}
}

func TestMigrateMistakes(t *testing.T) {
	t.Parallel()
	p := sagatest.New(t, simple(), version2())
	same := func(o order) (order, error) { return o, nil }
	if _, err := saga.Migrate(t.Context(), p.Orchestrator(), "checkout", 1, 3, same); !errors.Is(err, saga.ErrVersion) {
		t.Error(err)
	}
	if _, err := saga.Migrate(t.Context(), p.Orchestrator(), "checkout", 1, 2, same); err == nil {
		t.Error("a state of another type was taken")
	}
}

// failures records what a test would have failed with.
type failures struct {
	testing.TB
	got []string
}

func (f *failures) Helper() {}
func (f *failures) Errorf(format string, args ...any) {
	for _, a := range args {
		if err, ok := a.(error); ok {
			f.got = append(f.got, err.Error())
		}
	}
}

// TestReplay: journals of many lives pass through the definition that made them, and not through changed ones.
func TestReplay(t *testing.T) {
	t.Parallel()
	child := deliveries()
	whole := func() saga.Definition[order] {
		def := withChild(child, sideBySide().Steps[1:]...)
		def.Steps[0].Do = failing(1, mark("reserve"))
		def.Steps[0].When = func(o *order) bool { return o.ID != "" }
		return def
	}
	lives := map[string]func(p *sagatest.Probe){
		"completes": func(p *sagatest.Probe) { p.Publish(packed{"d-o1"}, packed{"o1"}, captured{"o1"}) },
		"declined":  func(p *sagatest.Probe) { p.Publish(packed{"d-o1"}, packed{"o1"}, declined{"o1"}) },
		"early":     func(p *sagatest.Probe) { p.Publish(captured{"o1"}, packed{"d-o1"}, packed{"o1"}) },
		"times out": func(p *sagatest.Probe) { p.Publish(packed{"d-o1"}); p.Advance(24 * time.Hour) },
		"child":     func(p *sagatest.Probe) { p.Advance(24 * time.Hour) },
		"open":      func(p *sagatest.Probe) { p.Publish(packed{"d-o1"}) },
	}
	var journals, children [][]saga.Entry
	for _, live := range lives {
		p := sagatest.New(t, whole(), child)
		p.Publish(placed{"o1"})
		p.Advance(time.Minute)
		live(p)
		for name, to := range map[string]*[][]saga.Entry{"checkout": &journals, "delivery": &children} {
			key := map[string]string{"checkout": "o1", "delivery": "d-o1"}[name]
			text, err := json.Marshal(p.Journal(name, key)) // as a file would keep it
			if err != nil {
				t.Fatal(err)
			}
			var entries []saga.Entry
			if err := json.Unmarshal(text, &entries); err != nil {
				t.Fatal(err)
			}
			*to = append(*to, entries)
		}
	}
	sagatest.Replay(t, whole(), journals...)
	sagatest.Replay(t, child, children...)

	for want, change := range map[string]func(*saga.Definition[order]){
		`skipped "insure": today it does not follow`:                func(d *saga.Definition[order]) { d.Steps[2].Parallel[2].When = nil },
		`failed "reserve": today the instance does not stand there`: func(d *saga.Definition[order]) { d.Steps[0].Name = "book" },
		`undone "charge": today the instance does not stand there`:  func(d *saga.Definition[order]) { d.Steps[2].Parallel[0].Undo = nil },
		"the state was": func(d *saga.Definition[order]) {
			d.Start = saga.StartOn(func(e placed) (string, order) { return e.ID, order{ID: e.ID, Note: "new"} })
		},
		"no Start takes": func(d *saga.Definition[order]) {
			d.Start = saga.StartOn(func(e ask) (string, order) { return e.ID, order{} })
		},
	} {
		def := whole()
		change(&def)
		f := &failures{TB: t}
		sagatest.Replay(f, def, journals...)
		if !strings.Contains(strings.Join(f.got, "\n"), want) {
			t.Errorf("the replay lacks %q: %q", want, f.got)
		}
	}
}
