package sagatest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/internal/drive"
)

// Everywhere runs script with a Probe once as it is, and then once for each point at which a process can end: after each
// lock, after each Do and Undo, after each write, before and after each commit, and before each acknowledgement. There the
// process ends, what it has not committed is gone, a new one begins, and the message that it had comes again. In the end
// all instances must have the status, the step and the state that they had without that, and the same events must have
// been published.
//
// sagas is called for each process. What the steps do beyond their Run must be kept by script, as another service would,
// and be told apart by Run.IdempotencyKey; check, which may be nil, looks at that after each run.
func Everywhere(t *testing.T, sagas func() []saga.Saga, script func(p *Probe), check func(t testing.TB, p *Probe)) {
	t.Helper()
	want, points := "", 0
	run := func(t *testing.T, at int) {
		p := New(t, sagas()...)
		p.crashAt = at
		script(p)
		if at == 0 {
			want, points = p.outcome(), p.points
		} else if got := p.outcome(); got != want {
			t.Errorf("ended at %q, it comes to\n%s\nand not to\n%s", p.crashed, got, want)
		}
		if check != nil {
			check(t, p)
		}
	}
	run(t, 0)
	for at := 1; at <= points && !t.Failed(); at++ {
		t.Run(fmt.Sprintf("end-%d", at), func(t *testing.T) { run(t, at) })
	}
}

// outcome is what must not depend on where a process has ended.
func (p *Probe) outcome() string {
	var lines []string
	for _, i := range p.all() {
		lines = append(lines, fmt.Sprintf("%s %q: %s at %q: %s", i.Saga, i.Key, i.Status, i.Step, i.State))
	}
	names, payloads := p.published()
	var events []string
	for i, name := range names {
		events = append(events, fmt.Sprintf("published %s: %s", name, payloads[i]))
	}
	slices.Sort(events)
	return strings.Join(append(lines, events...), "\n")
}

// Replay runs journals (of Orchestrator.Journal, of production) through a definition. The test fails where a transition is
// another one today: a step is reached that was not, or not any more, a reply leaves another state, a state does not
// decode. Do and Undo are not run.
func Replay(t testing.TB, definition saga.Saga, journals ...[]saga.Entry) {
	t.Helper()
	for i, entries := range journals {
		if err := drive.Replay(definition, entries); err != nil {
			t.Errorf("sagatest: journal %d: %v", i, err)
		}
	}
}
