package saga

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/postbus/postbus/bus"
)

// replay runs a journal through a definition: what came from outside is taken from the journal, and what the definition
// makes of it must be what the journal says. Do and Undo are not run; what they left in the state is taken, too.
func replay(def *definition, entries []Entry) error {
	if err := def.check(); err != nil {
		return err
	}
	m := &machine{in: &instance{saga: def.name, def: def, version: def.version}}
	for i := 0; i < len(entries); {
		e := entries[i]
		if e.Kind == Migrated {
			return nil // what was before is another version's
		}
		m.now, m.log = e.At.UnixMilli(), nil
		first := i == 0 || entries[i-1].Rev != e.Rev
		var next Kind
		if i+1 < len(entries) && entries[i+1].Rev == e.Rev {
			next = entries[i+1].Kind
		}
		if err := m.repeat(e, first, next); err != nil {
			return fmt.Errorf("saga %q: transition %d, %s %q: %w", def.name, e.Rev, e.Kind, e.Step, err)
		}
		for j, got := range m.log {
			if i+j >= len(entries) {
				break // the journal was taken before this
			}
			want := entries[i+j]
			if got.Kind != want.Kind || got.Step != want.Step {
				return fmt.Errorf("saga %q: transition %d: the journal says %s %q, today it is %s %q", def.name, want.Rev,
					want.Kind, want.Step, got.Kind, got.Step)
			}
			if got.State != "" && !sameJSON(got.State, want.State) {
				return fmt.Errorf("saga %q: transition %d, %s %q: the state was %s, today it is %s", def.name, want.Rev, want.Kind,
					want.Step, want.State, got.State)
			}
		}
		i += max(1, len(m.log))
	}
	return nil
}

// repeat applies an entry that tells of what came from outside: first is whether it is the first of its transition, and next
// the kind of the one after it there.
func (m *machine) repeat(e Entry, first bool, next Kind) error {
	l := m.in.progress.find(e.Step)
	at := func(phases ...phase) error {
		for _, p := range phases {
			if l != nil && l.Phase == p {
				return nil
			}
		}
		return fmt.Errorf("today the instance does not stand there, but at %q", m.in.progress.At)
	}
	switch e.Kind {
	case Skipped, Aborted, BecameStuck, Ended:
		if !first { // it has followed from what was before in the transition
			return errors.New("today it does not follow")
		}
	}
	switch e.Kind {
	case Started:
		return m.restart(e)
	case Done, Undone:
		if err := at(doing, undoing, childEnds); err != nil {
			return err
		}
		if l.Phase == childEnds {
			return m.childEnded(l, Compensated, nil)
		}
		if e.State != "" {
			state, err := m.in.def.codec.decode(e.State)
			if err != nil {
				return err
			}
			m.in.state = state
		}
		return m.did(l)
	case Failed, UndoFailed:
		if err := at(doing, undoing); err != nil {
			return err
		}
		err := errors.New(e.Error)
		if next == Aborted || next == BecameStuck {
			err = bus.Permanent(err)
		}
		m.failed(l, err)
	case Replied, Kept:
		return m.reheard(e)
	case TimedOut:
		if e.Step == "" {
			m.in.progress.Deadline = m.now
		} else if err := at(doing, waiting); err != nil {
			return err
		} else {
			l.Deadline = m.now
		}
		m.tick()
	case ChildEnded:
		if err := at(waiting); err != nil {
			return err
		}
		if e.Error != "" {
			return m.childEnded(l, Status(e.Error), nil)
		}
		state, err := m.in.def.codec.decode(e.State)
		if err != nil {
			return err
		}
		m.in.state = state
		m.note(ChildEnded, l.Name, nil)
		return m.finish(l)
	case Retried:
		m.retry()
	case Skipped:
		return m.skip()
	case BecameStuck: // today's program could not read it
		m.in.status = Stuck
		m.note(BecameStuck, e.Step, nil)
	case Aborted:
		m.abort(e.Step, e.Error)
	case Ended:
		m.end(Cancelled)
	case Reopened:
		m.note(Reopened, "", nil)
		m.in.ended = 0
		m.abort("", "the parent is undone")
	case ChildAborted:
		if err := at(undoing); err != nil {
			return err
		}
		l.Phase = childEnds
	case Ignored, Told:
	default:
		return errors.New("an unknown kind of entry")
	}
	return nil
}

// restart repeats the start.
func (m *machine) restart(e Entry) error {
	state := e.State
	if e.Event != "" {
		s := m.starter(schema{e.Event, e.EventVersion})
		if s == nil {
			return fmt.Errorf("today no Start takes %q version %d", e.Event, e.EventVersion)
		}
		ev, err := s.decode(eventCodec, e.Data)
		if err != nil {
			return err
		}
		_, made := s.start(ev)
		if state, err = m.in.def.codec.encode(made); err != nil {
			return err
		}
	}
	var err error
	if m.in.state, err = m.in.def.codec.decode(state); err != nil {
		return err
	}
	m.note(Started, e.Step, func(now *Entry) { now.State = state })
	return m.begin()
}

func (m *machine) starter(ev schema) *starter {
	for i := range m.in.def.starts {
		if m.in.def.starts[i].schema == ev {
			return &m.in.def.starts[i]
		}
	}
	return nil
}

// reheard repeats a reply.
func (m *machine) reheard(e Entry) error {
	s := m.in.def.leaves[e.Step]
	if s == nil {
		return fmt.Errorf("today there is no such step")
	}
	r := s.reply(schema{e.Event, e.EventVersion})
	if r == nil {
		return fmt.Errorf("today the step does not take %q version %d", e.Event, e.EventVersion)
	}
	ev, err := r.decode(eventCodec, e.Data)
	if err != nil {
		return err
	}
	return m.take(r.schema, ev, e.Message)
}

// sameJSON compares values, for the order of what encoding/json writes follows that of fields.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
