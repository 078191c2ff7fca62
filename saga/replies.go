package saga

import (
	"fmt"
	"slices"

	"github.com/postbus/postbus/bus"
)

// wait has l wait for its replies, of which some may be there.
func (m *machine) wait(l *leaf) error {
	l.Phase = waiting
	p := &m.in.progress
	for i := 0; i < len(p.Early) && l.Phase == waiting; {
		e := p.Early[i]
		r := m.step(l).reply(schema{e.Name, e.Version})
		if r == nil {
			i++
			continue
		}
		p.Early = slices.Delete(p.Early, i, i+1)
		ev, err := r.decode(eventCodec, e.Data)
		if err != nil {
			return fmt.Errorf("saga: a reply that came early: %w", err)
		}
		if err := m.reply(l, r, ev, e.Message); err != nil {
			return err
		}
	}
	return nil
}

// reply returns the reply of a step that takes an event, or nil.
func (s *step) reply(ev schema) *reply {
	for i := range s.replies {
		if s.replies[i].schema == ev {
			return &s.replies[i]
		}
	}
	return nil
}

// reply is told of an event that l waits for.
func (m *machine) reply(l *leaf, r *reply, ev any, message string) error {
	g := got{r.name, r.version}
	if slices.Contains(l.Got, g) {
		m.note(Ignored, l.Name, func(e *Entry) { e.Event, e.Message, e.Error = r.name, message, "it has come before" })
		return nil
	}
	if err := r.apply(m.in.state, ev); err != nil {
		return fmt.Errorf("saga %q: step %q: reply %q: %w", m.in.saga, l.Name, r.name, err)
	}
	data, err := eventCodec.Marshal(ev)
	if err != nil {
		return err
	}
	state, err := m.in.def.codec.encode(m.in.state)
	if err != nil {
		return bus.Permanent(err)
	}
	if m.in.state, err = m.in.def.codec.decode(state); err != nil { // it shares no memory with the event
		return bus.Permanent(err)
	}
	m.note(Replied, l.Name, func(e *Entry) {
		e.Event, e.EventVersion, e.Message, e.Data, e.State = r.name, r.version, message, data, state
	})
	if r.abort {
		m.abort(l.Name, fmt.Sprintf("step %q: %s", l.Name, r.name))
		return nil
	}
	s := m.step(l)
	if l.Got = append(l.Got, g); s.all {
		for i := range s.replies {
			if other := &s.replies[i]; !other.abort && !slices.Contains(l.Got, got{other.name, other.version}) {
				return nil
			}
		}
	}
	return m.finish(l)
}

// childEnded is told that the child of l has ended.
func (m *machine) childEnded(l *leaf, ended Status, state any) error {
	if l.Phase == childEnds {
		m.note(Undone, l.Name, nil)
		m.finished(l)
		l.Phase = undone
		m.undoNext()
		return nil
	}
	if ended != Completed {
		m.note(ChildEnded, l.Name, func(e *Entry) { e.Error = string(ended) })
		m.abort(l.Name, fmt.Sprintf("step %q: its child was %s", l.Name, ended))
		return nil
	}
	if f := m.step(l).child.done; f != nil {
		if err := f(m.in.state, state); err != nil {
			return fmt.Errorf("saga %q: step %q: %w", m.in.saga, l.Name, err)
		}
	}
	text, err := m.in.def.codec.encode(m.in.state)
	if err != nil {
		return bus.Permanent(err)
	}
	m.note(ChildEnded, l.Name, func(e *Entry) { e.State = text })
	return m.finish(l)
}
