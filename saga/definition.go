package saga

import (
	"context"
	"time"
)

// Definition is a saga: data and functions. S is its state, which is kept as JSON. A Definition may be used by many
// orchestrators, and is not changed once one has it.
type Definition[S any] struct {
	// Name is the durable name of the saga. Required.
	Name string
	// Version tells definitions of one name apart: an instance runs on the one it started with, and a new one on the
	// highest. It changes with the names and the order of steps, and with the type of the state. Default: 1.
	Version int
	// Start are the events that begin an instance. Default: only a step of another saga begins one, by Child.
	Start Start[S]
	// Timeout is how long after its start an instance that has not passed its pivot is aborted; past the pivot it is only
	// reported. Default: never.
	Timeout time.Duration
	// Steps are done in order. Required.
	Steps []Step[S]
}

// Step is a step of a saga. What it does is any of Do, Await, Child, or else Parallel; a step may Do and then Await.
type Step[S any] struct {
	// Name is the durable name of the step in its saga. Required.
	Name string
	// Do does the step. Its error is a verdict: bus.Permanent aborts the saga, bus.RetryAfter has it repeated not before
	// then, any other has it repeated by Retry. Default: nothing to do.
	Do func(ctx context.Context, r *Run[S]) error
	// Undo compensates the step. It runs also where nobody knows whether Do has happened, and where its last attempt
	// failed: having nothing to undo is no error. Default: nothing to undo.
	Undo func(ctx context.Context, r *Run[S]) error
	// Local promises that Do and Undo do nothing but through their Run. Such steps share a transaction. Default: they may
	// do anything, and each attempt is a transaction of its own.
	Local bool
	// Await is what ends the step once it is done. Default: the step ends when Do has succeeded.
	Await Await[S]
	// Timeout is how long the step may take, with its attempts, until the saga is aborted. Past the pivot, Do is repeated
	// instead, as often as Retry allows. A step that awaits has a Timeout, or MayWaitForever. Default: no limit.
	Timeout time.Duration
	// MayWaitForever states that there is no Timeout on purpose.
	MayWaitForever bool
	// Retry is how Do and Undo are repeated. Default: the zero Retry.
	Retry Retry
	// Pivot marks the step after which the saga only goes forward: a failure then is not undone but stuck. At most one.
	Pivot bool
	// When is a condition: where it is false the step is skipped. It is asked once, when the step is reached, and depends
	// on nothing but the state. Default: always.
	When func(state *S) bool
	// Parallel are steps side by side. All of them are begun, and the step ends with the last. Their functions run one at
	// a time, for they share the state; what they wait for overlaps. The step then has nothing else but Name, When and
	// Pivot.
	Parallel []Step[S]
	// Child is a saga that runs as this step; see StartChild. The step has no Do and no Await then.
	Child *Child[S]
}

// Retry is how an attempt that failed is repeated.
type Retry struct {
	// Attempts is how many there are, the first included. Default: DefaultAttempts.
	Attempts int
	// MinBackoff is the pause after the first, which doubles with each up to MaxBackoff. Up to half of it is added at
	// random. Defaults: DefaultMinBackoff, DefaultMaxBackoff, or the other one if that is beyond.
	MinBackoff, MaxBackoff time.Duration
}

// Defaults of Retry.
const (
	DefaultAttempts   = 10
	DefaultMinBackoff = 200 * time.Millisecond
	DefaultMaxBackoff = time.Minute
)

func (r Retry) withDefaults() Retry {
	if r.Attempts == 0 {
		r.Attempts = DefaultAttempts
	}
	switch {
	case r.MinBackoff == 0 && r.MaxBackoff == 0:
		r.MinBackoff, r.MaxBackoff = DefaultMinBackoff, DefaultMaxBackoff
	case r.MinBackoff == 0:
		r.MinBackoff = min(DefaultMinBackoff, r.MaxBackoff)
	case r.MaxBackoff == 0:
		r.MaxBackoff = max(DefaultMaxBackoff, r.MinBackoff)
	}
	return r
}

// backoff returns the pause after attempt n, without the random part.
func (r Retry) backoff(n int) time.Duration {
	d := r.MinBackoff
	for ; n > 1 && d < r.MaxBackoff; n-- {
		d *= 2
	}
	return min(d, r.MaxBackoff)
}

// Saga is a Definition of any state.
type Saga interface {
	// define returns the definition without its type.
	define() *definition
}

// definition is a Definition without its type: states are pointers to S.
type definition struct {
	name    string
	version int
	starts  []starter
	timeout time.Duration
	steps   []*step
	leaves  map[string]*step
	codec   stateCodec
}

// step is a Step without its type. One without parallel steps is its own only leaf.
type step struct {
	name      string
	index     int // in steps
	leaves    []*step
	do, undo  func(ctx context.Context, r *run) error
	local     bool
	replies   []reply
	all       bool
	timeout   time.Duration
	forever   bool
	retry     Retry
	pivot     bool
	when      func(state any) bool
	child     *child
	parallel  bool
	redundant []string // fields that are set and have no meaning beside others
}

func (d Definition[S]) define() *definition {
	def := &definition{name: d.Name, version: d.Version, timeout: d.Timeout, leaves: map[string]*step{}, codec: jsonOf[S]{}}
	if def.version == 0 {
		def.version = 1
	}
	def.starts = d.Start
	for i := range d.Steps {
		s := d.Steps[i].define()
		if s.parallel = len(d.Steps[i].Parallel) > 0; s.parallel {
			if s.do != nil || s.undo != nil || s.replies != nil || s.timeout != 0 || s.child != nil || s.local {
				s.redundant = append(s.redundant, "Parallel beside Do, Undo, Local, Await, Timeout or Child")
			}
			for j := range d.Steps[i].Parallel {
				p := &d.Steps[i].Parallel[j]
				l := p.define()
				if len(p.Parallel) > 0 || p.Pivot {
					l.redundant = append(l.redundant, "Parallel or Pivot within Parallel")
				}
				s.leaves = append(s.leaves, l)
			}
		} else {
			s.leaves = []*step{s}
		}
		for _, l := range s.leaves {
			l.index = i
			def.leaves[l.name] = l
		}
		s.index = i
		def.steps = append(def.steps, s)
	}
	return def
}

func (s *Step[S]) define() *step {
	out := &step{
		name: s.Name, local: s.Local, timeout: s.Timeout, forever: s.MayWaitForever, retry: s.Retry.withDefaults(), pivot: s.Pivot,
		replies: s.Await.replies, all: s.Await.all,
	}
	out.do, out.undo = function(s.Do), function(s.Undo)
	if s.When != nil {
		out.when = func(state any) bool { return s.When(state.(*S)) }
	}
	if s.Child != nil {
		out.child = &s.Child.child
		if s.Do != nil || s.Await.replies != nil {
			out.redundant = append(out.redundant, "Child beside Do or Await")
		}
	}
	return out
}

// topStep returns the step of steps that leaf belongs to.
func (d *definition) topStep(leaf *step) *step { return d.steps[leaf.index] }

// pivoted reports whether the steps have a pivot before index i.
func (d *definition) pivotBefore(i int) bool {
	for _, s := range d.steps[:i] {
		if s.pivot {
			return true
		}
	}
	return false
}
