package saga

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/postbus/postbus/bus"
)

// machine changes an instance, in memory. It runs no Do and no Undo, and does no I/O: given the same instance and the same
// calls it comes to the same end, but for the random part of a backoff.
type machine struct {
	in  *instance
	now int64
	log []Entry
}

func (m *machine) note(kind Kind, step string, f func(*Entry)) {
	e := Entry{Kind: kind, Step: step}
	if f != nil {
		f(&e)
	}
	m.log = append(m.log, e)
}

// begin takes a new instance to its first step.
func (m *machine) begin() error {
	m.in.status = Running
	if t := m.in.def.timeout; t > 0 {
		m.in.progress.Deadline = m.now + milli(t)
	}
	return m.enter(0)
}

// enter takes the instance to step i, or to the first after it that is not skipped and does not end at once.
func (m *machine) enter(i int) error {
	for ; i < len(m.in.def.steps); i++ {
		top := m.in.def.steps[i]
		if top.when != nil && !top.when(m.in.state) {
			m.note(Skipped, top.name, nil)
			m.in.progress.Pivoted = m.in.progress.Pivoted || top.pivot
			continue
		}
		m.in.progress.At = top.name
		var reached []*leaf
		for _, s := range top.leaves {
			if top.parallel && s.when != nil && !s.when(m.in.state) {
				m.note(Skipped, s.name, nil)
				continue
			}
			l := &leaf{Name: s.name, Since: m.now}
			if s.timeout > 0 {
				l.Deadline = m.now + milli(s.timeout)
			}
			if l.Phase = waiting; s.do != nil || s.child != nil {
				l.Phase, l.Due = doing, m.now
			}
			reached = append(reached, l)
		}
		m.in.progress.Leaves = append(m.in.progress.Leaves, reached...)
		for _, l := range reached {
			if l.Phase != waiting {
				continue
			}
			if err := m.wait(l); err != nil {
				return err
			}
			if m.in.status != Running || m.in.progress.At != top.name {
				return nil // an early reply has taken it further, or aborted it
			}
		}
		if len(reached) > 0 {
			return nil
		}
		m.in.progress.Pivoted = m.in.progress.Pivoted || top.pivot
	}
	m.end(Completed)
	return nil
}

// step returns the definition of a leaf.
func (m *machine) step(l *leaf) *step { return m.in.def.leaves[l.Name] }

// did is told that the function of l has succeeded.
func (m *machine) did(l *leaf) error {
	s := m.step(l)
	if l.Phase == undoing {
		m.note(Undone, l.Name, func(e *Entry) { e.Attempt = l.Attempt + 1 })
		m.finished(l)
		l.Phase = undone
		m.undoNext()
		return nil
	}
	m.note(Done, l.Name, func(e *Entry) { e.Attempt = l.Attempt + 1 })
	l.Due = 0
	if s.child != nil {
		l.Phase = waiting
		return nil
	}
	if len(s.replies) > 0 {
		return m.wait(l)
	}
	return m.finish(l)
}

// finished tells the last entry that it has ended l, or its undoing.
func (m *machine) finished(l *leaf) {
	e := &m.log[len(m.log)-1]
	e.Finished, e.Lasted = true, time.Duration(m.now-l.Since)*time.Millisecond
}

// finish ends l well, and goes on if it was the last of its step.
func (m *machine) finish(l *leaf) error {
	m.finished(l)
	l.Phase, l.Due, l.Deadline = done, 0, 0
	if p := &m.in.progress; m.in.status == Stuck && p.StuckAt == l.Name { // what it was stuck at has come after all
		m.in.status, m.in.err, p.StuckAt = Running, "", ""
	}
	top := m.in.def.topStep(m.step(l))
	for _, s := range top.leaves {
		if other := m.in.progress.find(s.name); other != nil && other.Phase != done {
			return nil
		}
	}
	if top.pivot {
		m.in.progress.Pivoted = true
	}
	return m.enter(top.index + 1)
}

// failed is told that an attempt of l has failed.
func (m *machine) failed(l *leaf, err error) {
	s := m.step(l)
	l.Attempt++
	kind := Failed
	if l.Phase == undoing {
		kind = UndoFailed
	}
	m.note(kind, l.Name, func(e *Entry) { e.Attempt, e.Error = l.Attempt, errorText(err) })
	if !bus.IsPermanent(err) && l.Attempt < s.retry.Attempts {
		pause := s.retry.backoff(l.Attempt)
		pause += rand.N(pause/2 + 1)
		if d, ok := bus.RetryDelay(err); ok {
			pause = d
		}
		l.Due = m.now + max(1, milli(pause))
		return
	}
	why := fmt.Sprintf("step %q: %s", l.Name, errorText(err))
	if l.Phase == undoing {
		m.stuck(l.Name, why)
		return
	}
	if m.in.progress.Pivoted {
		m.stuck(l.Name, why)
		return
	}
	l.Phase = failed
	m.abort(l.Name, why)
}

// tick looks for deadlines that are over.
func (m *machine) tick() {
	p := &m.in.progress
	if m.in.status != Running {
		return
	}
	if p.Deadline > 0 && p.Deadline <= m.now {
		p.Deadline = 0
		m.note(TimedOut, "", nil)
		if !p.Pivoted {
			m.abort(p.At, fmt.Sprintf("the saga took longer than %v", m.in.def.timeout))
			return
		}
	}
	for _, l := range p.Leaves {
		if (l.Phase != doing && l.Phase != waiting) || l.Deadline == 0 || l.Deadline > m.now {
			continue
		}
		s := m.step(l)
		m.note(TimedOut, l.Name, nil)
		why := fmt.Sprintf("step %q: no end after %v", l.Name, s.timeout)
		switch {
		case !p.Pivoted:
			m.abort(l.Name, why)
		case l.Phase == waiting && s.do != nil && l.Attempt+1 < s.retry.Attempts:
			l.Attempt++
			l.Phase, l.Due, l.Deadline = doing, m.now, m.now+milli(s.timeout)
			continue
		default:
			m.stuck(l.Name, why)
		}
		return
	}
}

// end ends the instance.
func (m *machine) end(s Status) {
	m.in.status, m.in.ended = s, m.now
	p := &m.in.progress
	p.At, p.Early, p.Deadline = "", nil, 0
	p.Notify = m.in.parent != parent{}
	m.note(Ended, "", func(e *Entry) { e.Error = p.Why })
}

// stuck has the instance wait for a person, because of a step.
func (m *machine) stuck(leaf, why string) {
	m.in.status, m.in.err, m.in.progress.StuckAt = Stuck, why, leaf
	m.note(BecameStuck, leaf, func(e *Entry) { e.Error = why })
}
