package saga

import (
	"context"
	"fmt"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
)

// Run is an attempt of a step, in the hands of its Do or Undo, and not beyond.
type Run[S any] struct {
	// State is the state of the instance. What the function leaves in it is committed if it returns nil. It may be replaced.
	State *S
	r     *run
}

// run is a Run without its type.
type run struct {
	state any
	in    *instance
	leaf  *leaf
	tx    *outbox.Tx
	undo  bool
}

// function is a Do or an Undo without its type, nil for none.
func function[S any](f func(context.Context, *Run[S]) error) func(context.Context, *run) error {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, r *run) error {
		typed := &Run[S]{State: r.state.(*S), r: r}
		if err := f(ctx, typed); err != nil {
			return err
		}
		if typed.State == nil {
			return bus.Permanent(fmt.Errorf("saga: %w: the function has set Run.State to nil", bus.ErrInvalid))
		}
		r.state = typed.State
		return nil
	}
}

// Key returns the key of the instance.
func (r *Run[S]) Key() string { return r.r.in.key }

// Attempt returns which attempt this is, from 1.
func (r *Run[S]) Attempt() int { return r.r.leaf.Attempt + 1 }

// IdempotencyKey returns a text that is equal for all attempts of this function of this step of this instance, and for no
// others: for services that take one.
func (r *Run[S]) IdempotencyKey() string {
	direction := "/do"
	if r.r.undo {
		direction = "/undo"
	}
	return r.r.in.id + "/" + r.r.leaf.Name + direction
}

// Publish publishes events when the step commits.
func (r *Run[S]) Publish(ctx context.Context, events ...bus.Event) error {
	return r.r.tx.Publish(ctx, events...)
}

// Tx returns the transaction of the step, for the program's own rows.
func (r *Run[S]) Tx() *outbox.Tx { return r.r.tx }

var _ bus.Publisher = (*Run[struct{}])(nil)
