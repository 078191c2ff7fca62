package saga

import "context"

// Hook sees what an orchestrator does. Its functions are called concurrently; each may be nil.
type Hook struct {
	// Observe is called after the commit of each transition, for each entry of its journal.
	Observe func(i Instance, e Entry)
	// Around runs an attempt of a Do or an Undo, by do, with the context that the attempt is to have, and returns its error.
	// It changes neither.
	Around func(ctx context.Context, a Attempt, do func(ctx context.Context) error) error
}

// Attempt is an attempt of a Do or an Undo.
type Attempt struct {
	Saga, Key string
	Version   int
	Step      string
	Undo      bool
	// Number is which it is, from 1.
	Number int
	// Trace is the W3C trace context of the message that started the instance; nil if it had none.
	Trace map[string]string
}

// around returns f within the hooks, the first outermost.
func (o *Orchestrator) around(r *run, f func(context.Context, *run) error) func(context.Context) error {
	do := func(ctx context.Context) error { return f(ctx, r) }
	a := Attempt{Saga: r.in.saga, Key: r.in.key, Version: r.in.version, Step: r.leaf.Name, Undo: r.undo, Number: r.leaf.Attempt + 1, Trace: r.in.trace}
	for i := len(o.cfg.Hooks) - 1; i >= 0; i-- {
		if around := o.cfg.Hooks[i].Around; around != nil {
			inner := do
			do = func(ctx context.Context) error { return around(ctx, a, inner) }
		}
	}
	return do
}
