package outbox

import (
	"context"
	"errors"
	"fmt"

	"github.com/postbus/postbus/bus"
)

// Handle registers fn as bus.Handle does, and has each message take effect once: a note of it (by group and message id),
// the statements of fn and the events that it publishes commit together, or not at all. A second delivery, also one at
// the same time, has no effect, and is acknowledged only once the first has committed.
//
// What fn does past tx, such as a call to another service, is not undone with it. After a deadlock or a serialization
// failure fn runs again within the same delivery, in a new transaction.
func Handle[E bus.Event](b *bus.Bus, group string, box *Box, fn func(ctx context.Context, tx *Tx, event E) error) {
	if box == nil || fn == nil {
		bus.Handle[E](b, group, nil) // a wiring mistake, which Start reports with its place
		return
	}
	bus.Handle(b, group, func(ctx context.Context, event E) error {
		return box.handle(ctx, func(tx *Tx) error { return fn(ctx, tx, event) })
	})
}

// errHandled rolls a transaction back that found its message handled.
var errHandled = errors.New("handled before")

func (b *Box) handle(ctx context.Context, f func(tx *Tx) error) error {
	d, ok := bus.DeliveryFrom(ctx)
	if !ok {
		return fmt.Errorf("outbox: %w: a middleware took the delivery out of the context", bus.ErrInvalid)
	}
	if err := b.Prepare(ctx); err != nil {
		return err
	}
	id := d.Message().ID
	err := b.run(ctx, func(tx *Tx) error {
		first, err := b.enter(ctx, tx, d.Group, id)
		if err != nil {
			return fmt.Errorf("outbox: inbox: %w", err)
		}
		if !first {
			return errHandled
		}
		b.at("handler")
		return f(tx)
	})
	b.at("handled")
	if err == nil || errors.Is(err, errHandled) {
		b.handled.Run(ctx)
		return nil
	}
	return err
}
