package saga_test

import (
	"context"
	"errors"
	"maps"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatest"
)

// bank is another service: it knows a call that it has had.
type bank map[string]int

func (b bank) call(r *saga.Run[order], what string) { b[r.Key()+" "+what+" "+r.IdempotencyKey()]++ }

// TestEndsEverywhere ends the process at each point of several lives of an instance. The outcome does not depend on it,
// and another service has had each call under one key.
func TestEndsEverywhere(t *testing.T) {
	t.Parallel()
	child := deliveries()
	lives := map[string]struct {
		script func(p *sagatest.Probe)
		local  bool
		last   error
	}{
		"completes":        {script: func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}, packed{"d-o1"}) }},
		"completes, local": {script: func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}, packed{"d-o1"}) }, local: true},
		"declined":         {script: func(p *sagatest.Probe) { p.Publish(placed{"o1"}, declined{"o1"}) }},
		"times out":        {script: func(p *sagatest.Probe) { p.Publish(placed{"o1"}); p.Advance(time.Hour) }},
		"the child does":   {script: func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}); p.Advance(3 * time.Hour) }},
		"fails at the end": {
			script: func(p *sagatest.Probe) { p.Publish(placed{"o1"}, captured{"o1"}, packed{"d-o1"}) },
			last:   bus.Permanent(errors.New("no carrier")),
		},
		"is compensated by a person": {script: func(p *sagatest.Probe) {
			p.Publish(placed{"o1"})
			p.Do(func(o *saga.Orchestrator) error { return o.Compensate(context.Background(), "checkout", "o1") })
		}},
	}
	for name, life := range lives {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var had, want bank
			outside := func(what string, err error, local bool) func(context.Context, *saga.Run[order]) error {
				return func(ctx context.Context, r *saga.Run[order]) error {
					if !local { // what is Local calls nobody
						had.call(r, what)
					}
					r.State.Done = append(r.State.Done, what)
					return errors.Join(err, r.Publish(ctx, packed{r.Key() + what}))
				}
			}
			sagatest.Everywhere(t, func() []saga.Saga {
				def := withChild(child, saga.Step[order]{Name: "ship", Do: outside("ship", life.last, false), Undo: outside("unship", nil, false)},
					saga.Step[order]{Name: "thank", Do: outside("thank", nil, life.local), Local: life.local, Pivot: true})
				charge := saga.Step[order]{Name: "charge", Do: outside("charge", nil, false), Undo: outside("refund", nil, false), Await: payment, Timeout: time.Hour}
				def.Steps[0] = saga.Step[order]{Name: "reserve", Do: outside("reserve", nil, life.local), Undo: outside("release", nil, life.local), Local: life.local}
				def.Steps = append([]saga.Step[order]{def.Steps[0], charge}, def.Steps[1:]...)
				return []saga.Saga{def, child}
			}, func(p *sagatest.Probe) {
				had = bank{}
				life.script(p)
			}, func(t testing.TB, _ *sagatest.Probe) {
				if want == nil {
					want = bank{}
					maps.Copy(want, had)
				}
				if len(had) != len(want) {
					t.Errorf("calls %v, want %v", had, want)
				}
				for call := range had {
					if had[call] > 2 {
						t.Errorf("%d times %s", had[call], call)
					}
				}
			})
		})
	}
}
