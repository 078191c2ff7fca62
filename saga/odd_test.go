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
)

// simple is a saga whose steps note themselves in the state.
func simple() saga.Definition[order] {
	return saga.Definition[order]{
		Name: "checkout", Start: begin,
		Steps: []saga.Step[order]{
			{Name: "reserve", Do: mark("reserve"), Undo: mark("release")},
			{Name: "charge", Do: request, Undo: mark("refund"), Await: payment, Timeout: 15 * time.Minute},
			{Name: "ship", Do: mark("ship"), Pivot: true},
		},
	}
}

func mark(what string) func(context.Context, *saga.Run[order]) error {
	return func(_ context.Context, r *saga.Run[order]) error {
		r.State.Done = append(r.State.Done, what)
		return nil
	}
}

// failing fails n times.
func failing(n int, then func(context.Context, *saga.Run[order]) error) func(context.Context, *saga.Run[order]) error {
	return func(ctx context.Context, r *saga.Run[order]) error {
		r.State.Note = "must not stay"
		if n--; n >= 0 {
			return errors.New("out of order")
		}
		r.State.Note = ""
		return then(ctx, r)
	}
}

// story returns the journal of the instance "o1" as words.
func story(p *sagatest.Probe) string {
	var words []string
	for _, e := range p.Journal("checkout", "o1") {
		words = append(words, strings.Trim(string(e.Kind)+":"+e.Step, ":"))
	}
	return strings.Join(words, " ")
}

// TestOddOrders: each has one outcome.
func TestOddOrders(t *testing.T) {
	t.Parallel()
	const paid = "started done:reserve done:charge replied:charge done:ship ended"
	const back = "aborted:charge undone:charge undone:reserve ended"
	for name, tc := range map[string]struct {
		script func(p *sagatest.Probe)
		status saga.Status
		story  string
	}{
		"in order":       {func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}) }, saga.Completed, paid},
		"repeated start": {func(p *sagatest.Probe) { p.Publish(placed{"o1"}, placed{"o1"}, captured{"o1"}) }, saga.Completed, paid},
		"redelivered start": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}); p.Redeliver(placed{"o1"}); p.Publish(captured{"o1"}) }, saga.Completed, paid,
		},
		"reply twice": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}, captured{"o1"}) }, saga.Completed, paid,
		},
		"reply redelivered": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}); p.Redeliver(captured{"o1"}) }, saga.Completed, paid,
		},
		"start after the end": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}, placed{"o1"}) }, saga.Completed, paid,
		},
		"reply before the start": {
			func(p *sagatest.Probe) { p.Publish(captured{"o1"}, placed{"o1"}); p.Advance(time.Minute) }, saga.Completed, paid,
		},
		"contradiction after the reply": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}, declined{"o1"}) }, saga.Completed, paid,
		},
		"aborted": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}, declined{"o1"}) }, saga.Compensated,
			"started done:reserve done:charge replied:charge " + back,
		},
		"never": {
			func(p *sagatest.Probe) { p.Publish(placed{"o1"}); p.Advance(15 * time.Minute) }, saga.Compensated,
			"started done:reserve done:charge timed-out:charge " + back,
		},
		"just before the timeout": {
			func(p *sagatest.Probe) {
				p.Publish(placed{"o1"})
				p.Advance(15*time.Minute - time.Millisecond)
				p.Publish(captured{"o1"})
				p.Advance(time.Hour)
			}, saga.Completed, paid,
		},
		"reply after the timeout": {
			func(p *sagatest.Probe) {
				p.Publish(placed{"o1"})
				p.Advance(16 * time.Minute)
				p.Publish(captured{"o1"})
			}, saga.Compensated,
			"started done:reserve done:charge timed-out:charge " + back,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := sagatest.New(t, simple())
			tc.script(p)
			if i := p.Instance("checkout", "o1"); i.Status != tc.status || story(p) != tc.story {
				t.Errorf("%s: %s\nwant %s: %s", i.Status, story(p), tc.status, tc.story)
			}
			if n := len(sagatest.Published[ask](p)); n != 1 {
				t.Errorf("%d requests", n)
			}
			p.Advance(time.Hour) // for messages that come again
			if len(p.Failed()) > 0 {
				t.Errorf("failed: %v", p.Failed())
			}
		})
	}
}

// TestEarlyReply: what the outside world answers before the step has committed is kept until it has.
func TestEarlyReply(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Steps[1].Do = failing(2, request)
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"}, captured{"o1"}, captured{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Running || i.Step != "charge" {
		t.Fatalf("%+v", i)
	}
	p.Advance(time.Minute)
	want := "started done:reserve failed:charge kept:charge ignored failed:charge done:charge replied:charge done:ship ended"
	if story(p) != want {
		t.Errorf("got  %s\nwant %s", story(p), want)
	}
	if s := sagatest.State[order](p, "checkout", "o1"); s.Note != "paid" {
		t.Errorf("the state is %+v", s)
	}
}

// TestReplyWithoutInstance: it comes again a few times and is then ignored.
func TestReplyWithoutInstance(t *testing.T) {
	t.Parallel()
	p := sagatest.New(t, simple())
	p.Publish(captured{"o1"})
	p.Advance(time.Hour)
	if len(p.Failed()) > 0 {
		t.Error(p.Failed())
	}
	p.Publish(placed{"o1"})
	if i := p.Instance("checkout", "o1"); i.Step != "charge" {
		t.Errorf("the reply of an hour ago was kept: %+v", i)
	}
}

func TestRetries(t *testing.T) {
	t.Parallel()
	retry := saga.Retry{Attempts: 3, MinBackoff: time.Second, MaxBackoff: time.Minute}
	permanent := func(context.Context, *saga.Run[order]) error { return bus.Permanent(errors.New("no such article")) }
	for name, tc := range map[string]struct {
		change func(*saga.Definition[order])
		status saga.Status
		story  string
	}{
		"twice": {
			func(d *saga.Definition[order]) { d.Steps[0].Do = failing(2, mark("reserve")) },
			saga.Completed, "started failed:reserve failed:reserve done:reserve done:charge replied:charge done:ship ended",
		},
		"too often": { // what may have happened is undone
			func(d *saga.Definition[order]) { d.Steps[0].Do = failing(3, mark("reserve")) },
			saga.Compensated, "started failed:reserve failed:reserve failed:reserve aborted:reserve undone:reserve ended",
		},
		"too often, local": { // what was rolled back is not
			func(d *saga.Definition[order]) { d.Steps[0].Local, d.Steps[0].Do = true, failing(3, mark("reserve")) },
			saga.Compensated, "started failed:reserve failed:reserve failed:reserve aborted:reserve ended",
		},
		"permanent": {
			func(d *saga.Definition[order]) { d.Steps[0].Do = permanent },
			saga.Compensated, "started failed:reserve aborted:reserve undone:reserve ended",
		},
		"the pivot itself": {
			func(d *saga.Definition[order]) { d.Steps[2].Do = permanent },
			saga.Compensated,
			"started done:reserve done:charge replied:charge failed:ship aborted:ship undone:charge undone:reserve ended",
		},
		"past the pivot": {
			func(d *saga.Definition[order]) {
				d.Steps = append(d.Steps, saga.Step[order]{Name: "thank", Do: permanent})
			},
			saga.Stuck, "started done:reserve done:charge replied:charge done:ship failed:thank stuck:thank",
		},
		"undo": {
			func(d *saga.Definition[order]) {
				d.Steps[2].Do = permanent
				d.Steps[1].Undo = failing(2, mark("refund"))
			},
			saga.Compensated, "started done:reserve done:charge replied:charge failed:ship aborted:ship " +
				"undo-failed:charge undo-failed:charge undone:charge undone:reserve ended",
		},
		"undo too often": {
			func(d *saga.Definition[order]) {
				d.Steps[2].Do = permanent
				d.Steps[1].Undo = failing(3, mark("refund"))
			},
			saga.Stuck, "started done:reserve done:charge replied:charge failed:ship aborted:ship " +
				"undo-failed:charge undo-failed:charge undo-failed:charge stuck:charge",
		},
		"panic": {
			func(d *saga.Definition[order]) {
				d.Steps[0].Do = func(context.Context, *saga.Run[order]) error { panic("oops") }
			},
			saga.Compensated, "started failed:reserve failed:reserve failed:reserve aborted:reserve undone:reserve ended",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			def := simple()
			tc.change(&def)
			for i := range def.Steps {
				def.Steps[i].Retry = retry
			}
			p := sagatest.New(t, def)
			p.Publish(placed{"o1"})
			p.Advance(10 * time.Second)
			p.Publish(captured{"o1"})
			p.Advance(10 * time.Second)
			if i := p.Instance("checkout", "o1"); i.Status != tc.status || story(p) != tc.story {
				t.Errorf("%s: %s\nwant %s: %s", i.Status, story(p), tc.status, tc.story)
			}
			if s := sagatest.State[order](p, "checkout", "o1"); s.Note == "must not stay" {
				t.Error("a failed attempt has changed the state")
			}
		})
	}
}

// TestSagaTimeout: before the pivot it aborts, past it it is noted.
func TestSagaTimeout(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Timeout = time.Minute
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	p.Advance(time.Minute)
	if want := "started done:reserve done:charge timed-out aborted:charge undone:charge undone:reserve ended"; story(p) != want {
		t.Errorf("got  %s\nwant %s", story(p), want)
	}
	def.Steps = append(def.Steps, saga.Step[order]{Name: "thank", Do: failing(9, mark("thank"))})
	p = sagatest.New(t, def)
	p.Publish(placed{"o1"}, captured{"o1"})
	p.Advance(10 * time.Minute)
	if i := p.Instance("checkout", "o1"); i.Status != saga.Completed || !strings.Contains(story(p), "timed-out ") {
		t.Errorf("%s: %s", i.Status, story(p))
	}
}

// TestTimeoutPastPivot: the request is repeated with the same key, and then the instance is stuck.
func TestTimeoutPastPivot(t *testing.T) {
	t.Parallel()
	keys := map[string]int{}
	def := saga.Definition[order]{Name: "checkout", Start: begin, Steps: []saga.Step[order]{
		{Name: "decide", Do: mark("decide"), Pivot: true},
		{Name: "charge", Timeout: time.Minute, Retry: saga.Retry{Attempts: 3},
			Await: saga.Replies(saga.Continue(func(*order, captured) error { return nil })),
			Do: func(ctx context.Context, r *saga.Run[order]) error {
				keys[r.IdempotencyKey()]++
				return request(ctx, r)
			}},
	}}
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	p.Advance(time.Hour)
	if i := p.Instance("checkout", "o1"); i.Status != saga.Stuck || len(keys) != 1 || len(sagatest.Published[ask](p)) != 3 {
		t.Errorf("%+v, keys %v: %s", i, keys, story(p))
	}
	if err := p.Orchestrator().Retry(t.Context(), "checkout", "o1"); err != nil {
		t.Fatal(err)
	}
	if n := len(sagatest.Published[ask](p)); n != 4 {
		t.Errorf("%d requests after Retry", n)
	}
	p.Publish(captured{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Completed {
		t.Errorf("%+v: %s", i, story(p))
	}
}
