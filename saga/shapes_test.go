package saga_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
)

func TestWhen(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Steps[0].When = func(o *order) bool { return o.Note == "reserve" }
	def.Steps[1].When = func(o *order) bool { return false }
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	if want := "started skipped:reserve skipped:charge done:ship ended"; story(p) != want {
		t.Errorf("got  %s\nwant %s", story(p), want)
	}
}

// both waits for two replies, in any order.
var both = saga.AllReplies(
	saga.Continue(func(o *order, e captured) error { o.Done = append(o.Done, "captured"); return nil }),
	saga.Continue(func(o *order, e packed) error { o.Done = append(o.Done, "packed"); return nil }),
	saga.Abort(func(o *order, e declined) error { return nil }))

type packed struct{ Order string }

func (packed) EventName() string  { return "stock.packed" }
func (e packed) EventKey() string { return e.Order }

func TestAllReplies(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Steps[1].Await = both
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"}, packed{"o1"}, packed{"o1"})
	if i := p.Instance("checkout", "o1"); i.Step != "charge" {
		t.Errorf("after one of two: %+v", i)
	}
	p.Publish(captured{"o1"})
	if want := "started done:reserve done:charge replied:charge ignored:charge replied:charge done:ship ended"; story(p) != want {
		t.Errorf("got  %s\nwant %s", story(p), want)
	}
	p = sagatest.New(t, def)
	p.Publish(placed{"o1"}, packed{"o1"}, declined{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Compensated {
		t.Errorf("after an abort: %+v", i)
	}
}

// sideBySide packs and charges at once.
func sideBySide() saga.Definition[order] {
	def := simple()
	charge := def.Steps[1]
	def.Steps[1] = saga.Step[order]{Name: "prepare", Parallel: []saga.Step[order]{
		charge,
		{Name: "pack", Do: mark("pack"), Undo: mark("unpack"), Timeout: time.Hour,
			Await: saga.Replies(saga.Continue(func(o *order, e packed) error { return nil }))},
		{Name: "insure", Do: mark("insure"), When: func(o *order) bool { return o.Note == "dear" }},
	}}
	return def
}

func TestParallel(t *testing.T) {
	t.Parallel()
	const begun = "started done:reserve skipped:insure done:charge done:pack "
	for name, tc := range map[string]struct {
		events []bus.Event
		wait   time.Duration
		story  string
	}{
		"in order":  {[]bus.Event{captured{"o1"}, packed{"o1"}}, 0, begun + "replied:charge replied:pack done:ship ended"},
		"reversed":  {[]bus.Event{packed{"o1"}, captured{"o1"}}, 0, begun + "replied:pack replied:charge done:ship ended"},
		"one fails": {[]bus.Event{packed{"o1"}, declined{"o1"}}, 0, begun + "replied:pack replied:charge aborted:charge undone:pack undone:charge undone:reserve ended"},
		"one never": {[]bus.Event{packed{"o1"}}, time.Hour, begun + "replied:pack timed-out:charge aborted:charge undone:pack undone:charge undone:reserve ended"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := sagatest.New(t, sideBySide())
			p.Publish(placed{"o1"})
			p.Publish(tc.events...)
			p.Advance(tc.wait)
			if story(p) != tc.story {
				t.Errorf("got  %s\nwant %s", story(p), tc.story)
			}
		})
	}
}

type delivery struct{ Order, Tracking string }

// deliveries is the child of withChild.
func deliveries(steps ...saga.Step[delivery]) saga.Definition[delivery] {
	return saga.Definition[delivery]{Name: "delivery", Steps: append([]saga.Step[delivery]{
		{Name: "pick", Do: func(_ context.Context, r *saga.Run[delivery]) error { r.State.Tracking = "T1"; return nil },
			Undo: func(_ context.Context, r *saga.Run[delivery]) error { r.State.Tracking = "put back"; return nil }},
		{Name: "hand-over", Timeout: time.Hour, Await: saga.Replies(saga.Continue(func(d *delivery, e packed) error { return nil }))},
	}, steps...)}
}

func withChild(child saga.Definition[delivery], then ...saga.Step[order]) saga.Definition[order] {
	return saga.Definition[order]{Name: "checkout", Start: begin, Steps: append([]saga.Step[order]{
		{Name: "reserve", Do: mark("reserve"), Undo: mark("release")},
		{Name: "deliver", Timeout: 2 * time.Hour, Child: saga.StartChild(child,
			func(o *order) (string, delivery) { return "d-" + o.ID, delivery{Order: o.ID} },
			func(o *order, d *delivery) error { o.Note = d.Tracking; return nil })},
	}, then...)}
}

func TestChild(t *testing.T) {
	t.Parallel()
	fail := saga.Step[order]{Name: "thank", Do: func(context.Context, *saga.Run[order]) error { return bus.Permanent(errors.New("no")) }}
	fine := saga.Step[order]{Name: "thank", Do: mark("thank")}
	for name, tc := range map[string]struct {
		then          saga.Step[order]
		script        func(p *sagatest.Probe)
		parent, child saga.Status
		note          string
	}{
		"completes": {fine, func(p *sagatest.Probe) { p.Publish(packed{"d-o1"}) }, saga.Completed, saga.Completed, "T1"},
		"aborts":    {fine, func(p *sagatest.Probe) { p.Advance(time.Hour) }, saga.Compensated, saga.Compensated, ""},
		"is undone": {fail, func(p *sagatest.Probe) { p.Publish(packed{"d-o1"}) }, saga.Compensated, saga.Compensated, "T1"},
		"is aborted by a person": {fine, func(p *sagatest.Probe) {
			if err := p.Orchestrator().Compensate(context.Background(), "checkout", "o1"); err != nil {
				panic(err)
			}
			p.Publish(placed{"other"})
		}, saga.Compensated, saga.Compensated, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			child := deliveries()
			p := sagatest.New(t, withChild(child, tc.then), child)
			p.Publish(placed{"o1"})
			if c := p.Instance("delivery", "d-o1"); c.ParentSaga != "checkout" || c.ParentKey != "o1" || c.Step != "hand-over" {
				t.Fatalf("the child is %+v", c)
			}
			tc.script(p)
			parent, child1 := p.Instance("checkout", "o1"), p.Instance("delivery", "d-o1")
			if parent.Status != tc.parent || child1.Status != tc.child {
				t.Errorf("the parent is %s (%s), the child %s", parent.Status, story(p), child1.Status)
			}
			s := sagatest.State[order](p, "checkout", "o1")
			if s.Note != tc.note || slices.Contains(s.Done, "release") != (tc.parent == saga.Compensated) {
				t.Errorf("the state is %+v", s)
			}
		})
	}
}

// TestDiagram holds what a reader of one looks for.
func TestDiagram(t *testing.T) {
	t.Parallel()
	child := deliveries()
	def := withChild(child, sideBySide().Steps[1:]...)
	text := saga.Diagram(def)
	for _, want := range []string{
		"flowchart TD", `begin(["start<br>orders.placed"])`, `s1["reserve"]`, `s1 -.- s1u[/"undo reserve"/]`, `"deliver<br>saga delivery"`,
		`subgraph p2 ["prepare"]`, `"charge<br>await payments.captured"`, `-- "payments.declined" --> compensate`, `{{"pivot"}}`, "--> completed",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the diagram lacks %s:\n%s", want, text)
		}
	}
	p := sagatest.New(t, def, child)
	p.Publish(placed{"o1"})
	text, err := p.Orchestrator().Diagram(t.Context(), "checkout", "o1")
	if err != nil || !strings.Contains(text, "class s1 done") || !strings.Contains(text, "class s2 active") {
		t.Errorf("%v\n%s", err, text)
	}
}
