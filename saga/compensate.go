package saga

import (
	"cmp"
	"fmt"
)

// abort begins to undo what was done, and what may have been.
func (m *machine) abort(leaf, why string) {
	p := &m.in.progress
	if p.Pivoted {
		m.stuck(leaf, why)
		return
	}
	m.in.status, m.in.err = Compensating, ""
	p.Back, p.Why, p.Deadline, p.Early = true, why, 0, nil
	m.note(Aborted, cmp.Or(leaf, p.At), func(e *Entry) { e.Error = why })
	for _, l := range p.Leaves {
		s := m.step(l)
		happened := l.Phase == done || l.Phase == waiting || l.Tried
		if l.Attempt, l.Deadline, l.Due = 0, 0, 0; l.Phase == undone {
			continue
		}
		if l.Phase = undone; happened && (s.undo != nil || s.child != nil) {
			l.Phase = pending
		}
	}
	m.undoNext()
}

// undoNext goes on with the last step that is to be undone.
func (m *machine) undoNext() {
	p := &m.in.progress
	for i := len(p.Leaves) - 1; i >= 0; i-- {
		l := p.Leaves[i]
		if l.Phase == undoing || l.Phase == childEnds {
			return
		}
		if l.Phase == pending {
			p.At = m.in.def.topStep(m.step(l)).name
			l.Phase, l.Attempt, l.Due, l.Since = undoing, 0, m.now, m.now
			return
		}
	}
	m.end(Compensated)
}

// retry is a person's word that a stuck instance shall go on where it stands.
func (m *machine) retry() {
	p := &m.in.progress
	m.note(Retried, p.At, nil)
	m.in.status, m.in.err = Running, ""
	if p.Back {
		m.in.status = Compensating
	}
	for _, l := range p.Leaves {
		if l.Phase == doing || l.Phase == undoing || l.Phase == waiting {
			l.Attempt = 0
			if l.Phase != waiting {
				l.Due = m.now
			}
			s := m.step(l)
			switch {
			case l.Phase == waiting && s.do != nil && l.Deadline > 0 && l.Deadline <= m.now:
				l.Phase, l.Due, l.Deadline = doing, m.now, m.now+milli(s.timeout)
			case l.Phase != undoing && l.Deadline > 0:
				l.Deadline = m.now + milli(s.timeout)
			}
		}
	}
}

// skip is a person's word that the step because of which the instance is stuck has been seen to.
func (m *machine) skip() error {
	p := &m.in.progress
	l := p.find(p.StuckAt)
	if l == nil {
		return fmt.Errorf("%w: %q", ErrStep, p.StuckAt)
	}
	m.in.status, m.in.err = Running, ""
	m.note(Skipped, l.Name, nil)
	if !p.Back {
		return m.finish(l)
	}
	m.in.status = Compensating
	l.Phase = undone
	m.undoNext()
	return nil
}
