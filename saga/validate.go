package saga

import (
	"errors"
	"fmt"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// check returns everything that is wrong with a definition.
func (d *definition) check() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("saga %q: %w: %w", d.name, bus.ErrInvalid, fmt.Errorf(format, args...)))
	}
	if err := transport.CheckName("saga", d.name); err != nil {
		bad("%w", err)
	} else if len(d.name) > maxSagaName {
		bad("the name has %d bytes, %d are allowed", len(d.name), maxSagaName)
	}
	if d.version < 1 {
		bad("version %d must be at least 1", d.version)
	}
	if d.timeout < 0 {
		bad("Timeout %v must not be negative", d.timeout)
	}
	if len(d.steps) == 0 {
		bad("there are no Steps")
	}
	seen := map[schema]bool{}
	for _, s := range d.starts {
		switch {
		case s.err != nil:
			bad("Start: %w", s.err)
		case s.start == nil:
			bad("Start on %q has no function", s.name)
		case seen[s.schema]:
			bad("two Starts on %q version %d", s.name, s.version)
		}
		seen[s.schema] = true
	}
	names := map[string]bool{}
	pivots := 0
	for i, s := range d.steps {
		all := s.leaves
		if s.parallel {
			all = append([]*step{s}, all...)
		}
		for _, l := range all {
			if err := transport.CheckName("step", l.name); err != nil {
				bad("Steps[%d]: %w", i, err)
			}
			if names[l.name] {
				bad("two steps are named %q", l.name)
			}
			names[l.name] = true
			for _, what := range l.redundant {
				bad("step %q has %s", l.name, what)
			}
		}
		for _, l := range s.leaves {
			for _, err := range l.check(d.pivotBefore(i)) {
				bad("step %q: %w", l.name, err)
			}
		}
		if s.pivot {
			pivots++
		}
	}
	if pivots > 1 {
		bad("%d steps are a Pivot, 1 can be", pivots)
	}
	return errors.Join(errs...)
}

// maxSagaName leaves room for the name of the group.
const maxSagaName = transport.MaxNameLength - len(groupPrefix)

// check returns what is wrong with a step that has no parallel steps.
func (s *step) check(pastPivot bool) (errs []error) {
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	waits := len(s.replies) > 0 || s.child != nil
	switch {
	case s.do == nil && !waits:
		bad("it has none of Do, Await, Child and Parallel")
	case waits && s.timeout == 0 && !s.forever:
		bad("it waits and has neither Timeout nor MayWaitForever")
	case s.timeout != 0 && s.forever:
		bad("it has both Timeout and MayWaitForever")
	}
	if s.timeout < 0 {
		bad("Timeout %v must not be negative", s.timeout)
	}
	if s.local && s.do == nil && s.undo == nil {
		bad("it is Local and has neither Do nor Undo")
	}
	if r := s.retry; r.Attempts < 1 || r.MinBackoff < 0 || r.MaxBackoff < r.MinBackoff {
		bad("Retry must have at least 1 attempt and a backoff that grows from a positive time, and has %d from %v to %v",
			r.Attempts, r.MinBackoff, r.MaxBackoff)
	}
	if pastPivot && s.undo != nil {
		bad("it follows the Pivot, so that its Undo can never run")
	}
	if s.child != nil && s.child.start == nil {
		bad("its Child has no function that starts it")
	}
	seen := map[schema]bool{}
	continues := false
	for _, r := range s.replies {
		switch {
		case r.err != nil:
			bad("reply: %w", r.err)
		case r.apply == nil:
			bad("the reply %q has no function", r.name)
		case r.key == nil:
			bad("the reply %q has neither a key of its own (bus.Keyed) nor a function that tells it", r.name)
		case seen[r.schema]:
			bad("two replies are %q version %d", r.name, r.version)
		case r.abort && pastPivot:
			bad("it follows the Pivot, so that %q cannot abort the saga", r.name)
		}
		seen[r.schema] = true
		continues = continues || !r.abort
	}
	if len(s.replies) > 0 && !continues {
		bad("no reply continues the saga")
	}
	return errs
}

// checkKey returns why key cannot name an instance.
func checkKey(saga, key string) error {
	switch {
	case key == "":
		return fmt.Errorf("saga %q: %w: the key is empty", saga, bus.ErrInvalid)
	case len(key) > maxKey:
		return fmt.Errorf("saga %q: %w: the key %.40q… has %d bytes, %d are allowed", saga, bus.ErrInvalid, key, len(key), maxKey)
	}
	if err := (&transport.Message{ID: "-", Key: key}).Check(); err != nil {
		return fmt.Errorf("saga %q: %w", saga, err)
	}
	return nil
}

const maxKey = 255
