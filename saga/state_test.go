package saga_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
)

// listed and confirmed are events that a state shares memory with.
type (
	listed    struct{ Lines []string }
	confirmed struct{ Lines []string }
	basket    struct{ Lines []string }
)

func (listed) EventName() string    { return "baskets.listed" }
func (confirmed) EventName() string { return "baskets.confirmed" }
func (confirmed) EventKey() string  { return "b1" }
func (b *basket) add(line string)   { b.Lines[0] += line }

// TestStateIsItsOwn: what a failed attempt has done to a slice of the state, which came from an event, is undone, and the
// event of the caller stays as it is.
func TestStateIsItsOwn(t *testing.T) {
	t.Parallel()
	twice := func(what string) func(context.Context, *saga.Run[basket]) error {
		n := 2
		return func(_ context.Context, r *saga.Run[basket]) error {
			r.State.add(what)
			if n--; n >= 0 {
				return errors.New("out of order")
			}
			return nil
		}
	}
	p := sagatest.New(t, saga.Definition[basket]{
		Name: "baskets", Start: saga.StartOn(func(e listed) (string, basket) { return "b1", basket(e) }),
		Steps: []saga.Step[basket]{
			{Name: "first", Local: true, Do: twice("+first")},
			{Name: "confirm", MayWaitForever: true, Await: saga.Replies(
				saga.Continue(func(b *basket, e confirmed) error { b.Lines = e.Lines; return nil }))},
			{Name: "last", Local: true, Do: twice("+last")},
		},
	})
	start, reply := listed{[]string{"cup"}}, confirmed{[]string{"plate"}}
	p.Publish(start)
	if got := sagatest.State[basket](p, "baskets", "b1").Lines[0]; got != "cup" {
		t.Errorf("after a failed attempt the state has %q", got)
	}
	p.Advance(time.Minute)
	if got := sagatest.State[basket](p, "baskets", "b1").Lines[0]; got != "cup+first" {
		t.Errorf("after the first step the state has %q", got)
	}
	p.Publish(reply)
	p.Advance(time.Minute)
	if got := sagatest.State[basket](p, "baskets", "b1").Lines[0]; got != "plate+last" {
		t.Errorf("after the last step the state has %q", got)
	}
	if start.Lines[0] != "cup" || reply.Lines[0] != "plate" {
		t.Errorf("the events have become %q and %q", start.Lines[0], reply.Lines[0])
	}
}

// TestStateIsReplaced: a function may set State itself.
func TestStateIsReplaced(t *testing.T) {
	t.Parallel()
	def := simple()
	def.Steps[0].Do = func(_ context.Context, r *saga.Run[order]) error {
		r.State = &order{ID: r.State.ID, Note: "replaced"}
		return nil
	}
	def.Steps[2].Do = func(_ context.Context, r *saga.Run[order]) error {
		r.State = nil
		return nil
	}
	def.Steps[2].Retry.Attempts = 1
	p := sagatest.New(t, def)
	p.Publish(placed{"o1"})
	if s := sagatest.State[order](p, "checkout", "o1"); s.Note != "replaced" {
		t.Errorf("the state is %+v", s)
	}
	p.Publish(captured{"o1"})
	if i := p.Instance("checkout", "o1"); i.Status != saga.Compensated {
		t.Errorf("a step that leaves no state: %+v", i)
	}
}
