package saga

import (
	"context"
	"errors"
	"fmt"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// work is one transaction, and what became of the tries that were rolled back: an attempt that fails takes all with it,
// and the next try takes its failure down instead of making it.
type work struct {
	o      *Orchestrator
	tx     *outbox.Tx
	failed map[attemptOf]*attemptError
	exists map[instanceOf]bool // no start is needed
	list   []*transition       // that were made in the transaction
	last   *attemptOf          // that succeeded in it
}

type instanceOf struct{ saga, key string }

type attemptOf struct {
	instanceOf
	leaf    string
	undo    bool
	attempt int
}

// transition is the change of one instance in a transaction.
type transition struct {
	machine
	w    *work
	made bool // the instance is new
	exec bool // one function that is not local may run
	// After the commit:
	again bool // one such function is next
}

// attemptError is the error of a Do or an Undo.
type attemptError struct {
	of  attemptOf
	err error
}

func (e *attemptError) Error() string { return e.err.Error() }
func (e *attemptError) Unwrap() error { return e.err }

// errExists rolls a transaction back that started what is there.
var errExists = errors.New("the instance is there")

// transact runs f in a transaction by in, again as long as attempts fail in it, and returns the transitions that were
// committed.
func (o *Orchestrator) transact(ctx context.Context, in func(context.Context, func(*outbox.Tx) error) error,
	f func(ctx context.Context, w *work) error,
) ([]*transition, error) {
	w := &work{o: o, failed: map[attemptOf]*attemptError{}, exists: map[instanceOf]bool{}}
	for {
		committed := false
		err := in(ctx, func(tx *outbox.Tx) error {
			w.tx, w.list, w.last = tx, nil, nil
			err := f(ctx, w)
			committed = err == nil
			if committed {
				o.at("commit")
			}
			return err
		})
		o.at("committed")
		var attempt *attemptError
		switch {
		case err == nil && !committed: // a message that was handled before
			return nil, nil
		case err == nil:
			o.committed(w.list)
			return w.list, nil
		case errors.Is(err, errExists):
			continue // w.exists says so
		case errors.As(err, &attempt) && ctx.Err() == nil && w.failed[attempt.of] == nil:
			w.failed[attempt.of] = attempt
			continue
		case committed && w.last != nil && store.IsRefused(err) && w.failed[*w.last] == nil: // what cannot be committed has failed
			w.failed[*w.last] = &attemptError{*w.last, err}
			continue
		}
		return nil, err
	}
}

// lock returns a transition of an instance that is there, or nil.
func (w *work) lock(ctx context.Context, saga, key string) (*transition, error) {
	r, err := w.o.rows.find(ctx, w.tx, saga, key, true)
	if r == nil || err != nil {
		return nil, err
	}
	w.o.at("locked")
	def := w.o.definition(r.saga, r.version)
	if def == nil && r.rev > 0 && !Status(r.status).Ended() {
		return nil, fmt.Errorf("%w: saga %q version %d, of instance %q", ErrVersion, r.saga, r.version, r.key)
	}
	in, err := r.instance(def)
	t := &transition{machine: machine{in: in, now: w.o.now()}, w: w}
	if err != nil {
		return t, bus.Permanent(err)
	}
	return t, nil
}

// start makes a new instance, as far as its local steps go.
func (w *work) start(ctx context.Context, in *instance, first func(*Entry)) (*transition, error) {
	t := &transition{machine: machine{in: in, now: w.o.now()}, w: w, made: true}
	in.id, in.started = newID(), t.now
	if err := checkKey(in.saga, in.key); err != nil {
		return nil, bus.Permanent(err)
	}
	state, err := in.def.codec.encode(in.state)
	if err != nil {
		return nil, bus.Permanent(fmt.Errorf("saga %q: instance %q: encode the state: %w", in.saga, in.key, err))
	}
	if in.state, err = in.def.codec.decode(state); err != nil { // it shares no memory with the event, which the next try needs as it was
		return nil, bus.Permanent(fmt.Errorf("saga %q: instance %q: %w", in.saga, in.key, err))
	}
	t.note(Started, "", func(e *Entry) {
		first(e)
		e.State = state
	})
	if err := t.safely(t.begin); err != nil {
		return nil, err
	}
	return t, t.drive(ctx)
}

// safely runs f, in which functions of the definition may panic.
func (t *transition) safely(f func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			passCrash(p)
			err = bus.Permanent(fmt.Errorf("saga %q: instance %q: %w: %v", t.in.saga, t.in.key, ErrPanic, p))
		}
	}()
	return f()
}

// drive runs the functions that may run in this transaction, and writes the outcome.
func (t *transition) drive(ctx context.Context) error {
	ctx = t.w.o.causal(ctx, t.in)
	for {
		l := t.in.runnable(t.now, true)
		if l == nil && t.exec {
			l, t.exec = t.in.runnable(t.now, false), false
		}
		if l == nil {
			break
		}
		if err := t.function(ctx, l); err != nil {
			return err
		}
	}
	return t.save(ctx)
}

// function runs the Do or the Undo of l, or takes down how it has failed.
func (t *transition) function(ctx context.Context, l *leaf) error {
	of := attemptOf{instanceOf{t.in.saga, t.in.key}, l.Name, l.Phase == undoing, l.Attempt}
	if failed := t.w.failed[of]; failed != nil {
		t.machine.failed(l, failed.err)
		return nil
	}
	if s := t.step(l); s.child != nil {
		if over, err := t.child(ctx, l, s); over || err != nil {
			return err
		}
	}
	before := len(t.log)
	r := &run{state: t.in.state, in: t.in, leaf: l, tx: t.w.tx, undo: of.undo}
	took, err := t.w.o.attempt(ctx, r, t.step(l))
	if cause := t.w.tx.Err(); err == nil && cause != nil {
		err = fmt.Errorf("a statement failed whose error was not returned: %w", cause)
	}
	if err != nil {
		return &attemptError{of, err}
	}
	t.in.state, t.w.last = r.state, &of
	t.w.o.at("done")
	state, err := t.in.def.codec.encode(t.in.state)
	if err != nil {
		return &attemptError{of, bus.Permanent(fmt.Errorf("encode the state: %w", err))}
	}
	if err := t.safely(func() error { return t.did(l) }); err != nil {
		return &attemptError{of, bus.Permanent(err)}
	}
	t.log[before].Took, t.log[before].State = took, state
	return nil
}

// save writes the instance and its journal.
func (t *transition) save(ctx context.Context) error {
	due := t.in.nextDue()
	if l := t.in.runnable(t.now, false); l != nil {
		// Whoever commits this goes on at once; the poller looks whether they have lived to do so.
		for _, l := range t.in.progress.Leaves {
			if l.Phase == doing && l.Due <= t.now {
				l.Tried = l.Tried || !t.step(l).isLocal()
			}
		}
		t.again, due = true, t.now+milli(t.w.o.grace)
	} else if due > 0 && due <= t.now {
		due = t.now + milli(t.w.o.grace)
	}
	rows, next := t.w.o.rows, nullable(due)
	switch {
	case t.made:
		t.in.rev = 1
		created, err := rows.insert(ctx, t.w.tx, t.in, next, t.now, t.log)
		if err != nil {
			return err
		}
		if !created {
			t.w.exists[instanceOf{t.in.saga, t.in.key}] = true
			return errExists
		}
	case len(t.log) == 0:
		if due == t.in.due {
			return nil
		}
		return rows.reschedule(ctx, t.w.tx, t.in.saga, t.in.key, next)
	default:
		t.in.rev++
		if err := rows.update(ctx, t.w.tx, t.in, next, t.now, t.log); err != nil {
			return err
		}
	}
	t.w.o.at("written")
	t.in.due = due
	t.w.list = append(t.w.list, t)
	return nil
}
