package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postbus/postbus/bus"
)

// child starts the child of l, or sees to its undoing. It reports whether that is all there is to do for now. Rows are
// locked from the parent to the child, everywhere.
func (t *transition) child(ctx context.Context, l *leaf, s *step) (over bool, err error) {
	if l.Phase == undoing {
		return t.undoChild(ctx, l, s)
	}
	in := &instance{saga: s.child.def.name, def: s.child.def, version: s.child.def.version, correlation: t.in.correlation, trace: t.in.trace,
		parent: parent{t.in.saga, t.in.key, l.Name}}
	err = t.safely(func() error {
		in.key, in.state = s.child.start(t.in.state)
		return nil
	})
	of := attemptOf{instanceOf{t.in.saga, t.in.key}, l.Name, false, l.Attempt}
	if err != nil {
		return true, &attemptError{of, err}
	}
	l.Child = in.key
	if t.w.exists[instanceOf{in.saga, in.key}] {
		r, err := t.w.o.rows.find(ctx, t.w.tx, in.saga, in.key, false)
		if err != nil {
			return true, err
		}
		if r != nil {
			if other, err := r.instance(nil); err != nil || other.parent != in.parent {
				taken := fmt.Errorf("the key %q of saga %q is taken", in.key, in.saga)
				return true, &attemptError{of, bus.Permanent(errors.Join(taken, err))}
			}
		}
	} else if _, err := t.w.start(ctx, in, func(e *Entry) { e.Step = l.Name }); err != nil {
		var attempt *attemptError
		if !errors.As(err, &attempt) && !errors.Is(err, errExists) && bus.IsPermanent(err) {
			err = &attemptError{of, err}
		}
		return true, err
	}
	return true, t.safely(func() error { return t.did(l) })
}

// undoChild has the child of l undone, or reports that the step's own Undo is to do it.
func (t *transition) undoChild(ctx context.Context, l *leaf, s *step) (over bool, err error) {
	c, err := t.w.lock(ctx, s.child.def.name, l.Child)
	if err != nil {
		return true, err
	}
	of := attemptOf{instanceOf{t.in.saga, t.in.key}, l.Name, true, l.Attempt}
	gone := c == nil || c.in.rev == 0
	switch {
	case l.Child == "" || c != nil && (c.in.status == Compensated || c.in.status == Cancelled):
		return true, t.did(l)
	case gone && s.undo != nil:
		return false, nil
	case gone:
		return true, &attemptError{of, bus.Permanent(fmt.Errorf("its child %q: %w: it cannot be undone", l.Child, ErrNotFound))}
	case s.undo != nil && (c.in.status == Completed || c.in.progress.Pivoted):
		return false, nil
	case c.in.progress.Pivoted:
		return true, &attemptError{of, bus.Permanent(fmt.Errorf("its child %q: %w", l.Child, ErrPivot))}
	case c.in.progress.Back: // it is on the way
	case c.in.status == Completed:
		c.note(Reopened, "", nil)
		c.in.ended, c.in.progress.Notify = 0, false
		c.abort("", "the parent is undone")
		err = c.drive(ctx)
	default:
		c.abort("", "the parent is undone")
		err = c.drive(ctx)
	}
	l.Phase, l.Due = childEnds, 0
	t.note(ChildAborted, l.Name, nil)
	return true, err
}

// tell brings the end of a child to its parent.
func (o *Orchestrator) tell(ctx context.Context, of instanceOf, up parent) error {
	list, err := o.transact(ctx, o.box.Tx, func(ctx context.Context, w *work) error {
		p, err := w.lock(ctx, up.saga, up.key)
		if err != nil {
			return err
		}
		c, err := w.lock(ctx, of.saga, of.key)
		if err != nil || c == nil || !c.in.progress.Notify {
			return err
		}
		c.in.progress.Notify = false
		if err := c.told(ctx, up.step); err != nil {
			return err
		}
		if p == nil || p.in.status.Ended() {
			return nil
		}
		l := p.in.progress.find(up.step)
		if l == nil || l.Child != of.key || (l.Phase != waiting && l.Phase != childEnds) {
			return nil
		}
		if err := p.safely(func() error { return p.childEnded(l, c.in.status, c.in.state) }); err != nil {
			return err
		}
		return p.drive(ctx)
	})
	if err != nil {
		return err
	}
	return o.goOn(ctx, list)
}

// told notes that the parent knows of the end.
func (t *transition) told(ctx context.Context, step string) error {
	t.in.rev++
	t.in.due = 0
	t.note(Told, step, nil)
	progress, err := json.Marshal(&t.in.progress)
	if err != nil {
		return err
	}
	q := "UPDATE postbus_saga SET rev = ?, progress = ?, due_ms = NULL WHERE saga = ? AND inst = ?"
	if _, err := t.w.o.rows.write(ctx, t.w.tx, t.in, t.now, t.log, q, []any{t.in.rev, string(progress), t.in.saga, t.in.key}); err != nil {
		return err
	}
	t.w.list = append(t.w.list, t)
	return nil
}
