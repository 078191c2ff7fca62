package saga

import "errors"

// Errors to be matched with errors.Is.
var (
	// ErrNotFound: there is no such instance.
	ErrNotFound = errors.New("saga: no such instance")
	// ErrEnded: the instance has ended.
	ErrEnded = errors.New("saga: the instance has ended")
	// ErrPivot: the instance is past its pivot, and cannot be undone.
	ErrPivot = errors.New("saga: the instance is past its pivot")
	// ErrNotStuck: the instance is not stuck, and needs nobody.
	ErrNotStuck = errors.New("saga: the instance is not stuck")
	// ErrNobody: no program has taken the command of an Operator, which was withdrawn.
	ErrNobody = errors.New("saga: no program has carried it out, and it was withdrawn: does one run that has the definition?")
	// ErrVersion: this program has no definition for the saga or its version.
	ErrVersion = errors.New("saga: no definition of this version")
	// ErrState: the state of an instance does not decode into the type of its definition.
	ErrState = errors.New("saga: the state cannot be decoded")
	// ErrStep: the instance stands at a step that its definition does not have.
	ErrStep = errors.New("saga: no such step in the definition")
	// ErrPanic: a function of the definition panicked.
	ErrPanic = errors.New("saga: panic")
	// ErrAttemptTimeout: an attempt took longer than Config.AttemptTimeout. If it did not return either, it was left
	// behind without its transaction.
	ErrAttemptTimeout = errors.New("saga: the attempt timed out")
	// ErrDied: an attempt ended its process, or the process was killed in it, several times in a row.
	ErrDied = errors.New("saga: the process ended during the step")
)
