package saga

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/postbus/postbus/outbox"
)

// commands are what a person can ask for, by name.
var commands = map[string]func(*transition) error{
	"retry": func(t *transition) error {
		if t.in.status != Stuck {
			return ErrNotStuck
		}
		t.retry()
		return nil
	},
	"skip": func(t *transition) error {
		if t.in.status != Stuck {
			return ErrNotStuck
		}
		return t.skip()
	},
	"compensate": func(t *transition) error {
		switch {
		case t.in.progress.Pivoted:
			return ErrPivot
		case t.in.progress.Back:
			if t.in.status == Stuck {
				t.retry()
			}
			return nil
		}
		t.abort("", "by a person")
		return nil
	},
	"cancel": func(t *transition) error {
		t.in.err = ""
		t.end(Cancelled)
		return nil
	},
}

// Retry has a stuck instance go on with the step because of which it is stuck, its attempts counted anew.
func (o *Orchestrator) Retry(ctx context.Context, saga, key string) error {
	return o.command(ctx, "retry", saga, key)
}

// Skip has a stuck instance go on after the step because of which it is stuck, as if that had been done, or undone.
func (o *Orchestrator) Skip(ctx context.Context, saga, key string) error {
	return o.command(ctx, "skip", saga, key)
}

// Compensate aborts an instance that runs or is stuck on its way forward, and has what was done undone. It is no error if
// it is being undone already; if it is stuck in that, it is Retry.
func (o *Orchestrator) Compensate(ctx context.Context, saga, key string) error {
	return o.command(ctx, "compensate", saga, key)
}

// Cancel ends an instance as it is. Nothing more is done, and nothing undone; a child of it goes on by itself.
func (o *Orchestrator) Cancel(ctx context.Context, saga, key string) error {
	return o.command(ctx, "cancel", saga, key)
}

func (o *Orchestrator) command(ctx context.Context, name, saga, key string) error {
	list, err := o.transact(ctx, o.box.Tx, func(ctx context.Context, w *work) error { return w.command(ctx, name, saga, key) })
	if err != nil {
		return fmt.Errorf("saga %q: %s %q: %w", saga, name, key, err)
	}
	o.goOnLater(ctx, list)
	return nil
}

// goOnLater does what follows a command, or leaves it to the poller.
func (o *Orchestrator) goOnLater(ctx context.Context, list []*transition) {
	if err := o.goOn(ctx, list); err != nil && ctx.Err() == nil {
		o.cfg.Logger.Warn("saga: what follows a command is left to the poller", "error", err)
	}
}

// command makes the transition that a person has asked for.
func (w *work) command(ctx context.Context, name, saga, key string) error {
	t, err := w.lock(ctx, saga, key)
	if errors.Is(err, ErrVersion) && name == "cancel" {
		t, err = w.lockUnknown(ctx, saga, key)
		if err == nil && t != nil && !t.in.status.Ended() {
			return w.cancelBroken(ctx, t)
		}
	}
	switch {
	case t != nil && t.in.status.Ended():
		return ErrEnded
	case err != nil && (t == nil || name != "cancel"):
		return err
	case err != nil: // what cannot be read can be cancelled
		return w.cancelBroken(ctx, t)
	case t == nil:
		return ErrNotFound
	}
	if err := t.safely(func() error { return commands[name](t) }); err != nil {
		return err
	}
	return t.drive(ctx)
}

// lockUnknown is lock for an instance of whose version this program has no definition.
func (w *work) lockUnknown(ctx context.Context, saga, key string) (*transition, error) {
	r, err := w.o.rows.find(ctx, w.tx, saga, key, true)
	if r == nil || err != nil {
		return nil, err
	}
	in, err := r.instance(nil)
	return &transition{machine: machine{in: in, now: w.o.now()}, w: w}, err
}

// cancelBroken ends an instance whose state or definition this program does not have.
func (w *work) cancelBroken(ctx context.Context, t *transition) error {
	t.in.rev++
	t.end(Cancelled)
	t.log[0].Error = "cancelled by a person; this program could not read it"
	progress, err := json.Marshal(&t.in.progress)
	if err != nil {
		return err
	}
	t.in.due = t.in.nextDue()
	q := "UPDATE postbus_saga SET status = ?, step = '', rev = ?, progress = ?, due_ms = ?, ended_ms = ? WHERE saga = ? AND inst = ?"
	args := []any{string(Cancelled), t.in.rev, string(progress), nullable(t.in.due), t.now, t.in.saga, t.in.key}
	if _, err := w.o.rows.write(ctx, w.tx, t.in, t.now, t.log, q, args); err != nil {
		return err
	}
	w.list = append(w.list, t)
	return nil
}

// carryOut makes the transition that an Operator has asked for by the request id, and answers it, in one transaction. It
// reports whether it was this call that answered.
func (o *Orchestrator) carryOut(ctx context.Context, id, name, saga, key string) (bool, error) {
	answered := false
	answer := func(ctx context.Context, tx *outbox.Tx, text string) error {
		res, err := tx.ExecContext(ctx, o.rows.dialect.Bind("UPDATE postbus_saga_command SET answer = ? WHERE id = ? AND answer IS NULL"), text, id)
		if err != nil {
			return err
		}
		n, err := res.RowsAffected()
		answered = n > 0
		return err
	}
	list, err := o.transact(ctx, o.box.Tx, func(ctx context.Context, w *work) error {
		if err := answer(ctx, w.tx, answerDone); err != nil || !answered {
			return err
		}
		return w.command(ctx, name, saga, key)
	})
	if text := refusal(err); text != "" {
		err = o.box.Tx(ctx, func(tx *outbox.Tx) error { return answer(ctx, tx, text) })
	}
	if err != nil {
		return false, err
	}
	o.goOnLater(ctx, list)
	return answered, nil
}

// requested carries out what Operators have asked for, and reports whether there was any.
func (o *Orchestrator) requested(ctx context.Context) (any bool, err error) {
	list, err := o.requests(ctx)
	if err != nil {
		return false, err
	}
	var errs []error
	for _, r := range list {
		if _, known := commands[r.command]; !known || o.newest[r.saga] == nil && r.command != "cancel" {
			continue // for another program
		}
		done, err := o.carryOut(ctx, r.id, r.command, r.saga, r.key)
		any = any || done
		if err != nil && !errors.Is(err, ErrVersion) {
			errs = append(errs, fmt.Errorf("saga %q: %s %q: %w", r.saga, r.command, r.key, err))
		}
	}
	return any, errors.Join(errs...)
}

// request is what an Operator has asked for.
type request struct{ id, saga, key, command string }

func (o *Orchestrator) requests(ctx context.Context) (list []request, err error) {
	rows, err := o.db.SQL().QueryContext(ctx,
		o.rows.dialect.Bind("SELECT id, saga, inst, command FROM postbus_saga_command WHERE answer IS NULL AND until_ms > ? ORDER BY until_ms, id"), o.now())
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var r request
		if err := rows.Scan(&r.id, &r.saga, &r.key, &r.command); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}
