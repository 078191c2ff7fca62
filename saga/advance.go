package saga

import (
	"context"
	"errors"
	"time"

	"github.com/postbus/postbus/bus"
)

const (
	// grace is how long after a commit the poller leaves an instance to who goes on with it at once.
	grace = 3 * time.Second
	// mostClaims is how often the poller picks an instance up, with no transition in between, before the step that it
	// stands at is taken for what ends the process; or as often as the step is tried at all, if that is more.
	mostClaims = 3
)

// goOn does what is next after a commit.
func (o *Orchestrator) goOn(ctx context.Context, list []*transition) error {
	var errs []error
	for _, t := range list {
		switch {
		case t.again:
			errs = append(errs, o.advance(ctx, t.in.saga, t.in.key, t.in.rev))
		case t.in.progress.Notify && t.in.def != nil:
			errs = append(errs, o.tell(ctx, instanceOf{t.in.saga, t.in.key}, t.in.parent))
		}
	}
	return errors.Join(errs...)
}

// advance runs what is due of an instance, unless it is not at transition rev any more.
func (o *Orchestrator) advance(ctx context.Context, saga, key string, rev int64) error {
	for ctx.Err() == nil {
		var up parent
		list, err := o.transact(ctx, o.box.Tx, func(ctx context.Context, w *work) error {
			t, err := w.lock(ctx, saga, key)
			if err != nil {
				return w.broken(ctx, t, err)
			}
			if t == nil || t.in.rev != rev {
				return nil
			}
			if t.in.status.Ended() {
				if up = (parent{}); t.in.progress.Notify {
					up = t.in.parent
				}
				return nil
			}
			if l := t.in.runnable(t.now, false); l != nil && t.in.claims > max(mostClaims, t.step(l).retry.Attempts) {
				w.failed[attemptOf{instanceOf{saga, key}, l.Name, l.Phase == undoing, l.Attempt}] = &attemptError{err: bus.Permanent(ErrDied)}
			}
			t.tick()
			t.exec = true
			return t.drive(ctx)
		})
		if err != nil {
			return err
		}
		if up != (parent{}) {
			return o.tell(ctx, instanceOf{saga, key}, up)
		}
		next := false
		var others []*transition
		for _, t := range list {
			if t.in.saga == saga && t.in.key == key && t.again {
				next, rev = true, t.in.rev
			} else {
				others = append(others, t)
			}
		}
		if err := o.goOn(ctx, others); err != nil || !next {
			return err
		}
	}
	return ctx.Err()
}

// broken has an instance that this program cannot read wait for a person. Nothing else in its row changes.
func (w *work) broken(ctx context.Context, t *transition, err error) error {
	if t == nil || !(errors.Is(err, ErrState) || errors.Is(err, ErrStep)) {
		return err
	}
	if t.in.status == Stuck || t.in.status.Ended() {
		return err
	}
	t.in.rev++
	t.in.status, t.in.err, t.in.due = Stuck, errorText(err), 0
	t.note(BecameStuck, t.in.progress.At, func(e *Entry) { e.Error = t.in.err })
	q := "UPDATE postbus_saga SET status = ?, error = ?, rev = ?, claims = 0, due_ms = NULL WHERE saga = ? AND inst = ?"
	_, err = w.o.rows.write(ctx, w.tx, t.in, t.now, t.log, q, []any{string(Stuck), t.in.err, t.in.rev, t.in.saga, t.in.key})
	w.list = append(w.list, t)
	return err
}

// unreadable has those of the instances wait for a person that this program cannot read.
func (o *Orchestrator) unreadable(ctx context.Context, saga string, keys []string) error {
	_, err := o.transact(ctx, o.box.Tx, func(ctx context.Context, w *work) error {
		for _, key := range keys {
			t, err := w.lock(ctx, saga, key)
			if err == nil || t != nil && t.in.status == Stuck {
				continue
			}
			if err := w.broken(ctx, t, err); err != nil {
				return err
			}
		}
		return nil
	})
	return err
}

// release takes a pickup back in which the process did not end: a stop, or a database in trouble, is no attempt.
func (o *Orchestrator) release(ctx context.Context, c claim) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), longestWait)
	defer cancel()
	q := "UPDATE postbus_saga SET claims = claims - 1 WHERE saga = ? AND inst = ? AND rev = ? AND claims > 0"
	if _, err := o.db.SQL().ExecContext(ctx, o.rows.dialect.Bind(q), c.saga, c.key, c.rev); err != nil {
		o.cfg.Logger.Warn("saga: an attempt that was broken off counts as one that ended its process", "saga", c.saga, "instance", c.key, "error", err)
	}
}

// committed tells who wants to know of transitions.
func (o *Orchestrator) committed(list []*transition) {
	for _, t := range list {
		if due := t.in.due; due > 0 {
			o.wake(due)
		}
		for _, e := range t.log {
			if e.Kind == BecameStuck {
				o.cfg.Logger.Error("saga: an instance is stuck, and waits for a person", "saga", t.in.saga, "instance", t.in.key, "error", e.Error)
			}
			e.Rev, e.At = t.in.rev, time.UnixMilli(t.now)
			for _, h := range o.cfg.Hooks {
				if h.Observe != nil {
					h.Observe(t.in.public(), e)
				}
			}
		}
	}
}

// crashed is what a test ends a process with: a panic that nothing here takes for one of the program.
type crashed interface{ PostbusCrash() }

func isCrash(p any) bool { _, ok := p.(crashed); return ok }

func passCrash(p any) {
	if isCrash(p) {
		panic(p)
	}
}
