package saga

// Child is a saga that runs as a step of another; see StartChild.
type Child[S any] struct{ child }

type child struct {
	def   *definition
	start func(state any) (key string, childState any)
	done  func(state, childState any) error
}

// StartChild has a step start an instance of another saga, and end well when that has completed; if the child ends in any
// other way, the saga is aborted. start returns the key and the first state of the child; done, unless it is nil, puts
// what the child came to into the state. Both depend on nothing but the states.
//
// When the step is compensated the child is: aborted if it runs, undone if it has completed. If the child is past its
// pivot, that takes the step's own Undo, and without one the instance is stuck.
func StartChild[S, C any](d Definition[C], start func(state *S) (key string, child C), done func(state *S, child *C) error) *Child[S] {
	c := &Child[S]{child{def: d.define()}}
	if start != nil {
		c.start = func(state any) (string, any) {
			key, cs := start(state.(*S))
			return key, &cs
		}
	}
	if done != nil {
		c.done = func(state, cs any) error { return done(state.(*S), cs.(*C)) }
	}
	return c
}
