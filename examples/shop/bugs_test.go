package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/postbus/postbus/bus"
)

// breaking is a middleware that does something else instead of what group does with event.
func breaking(group, event string, instead func(ctx context.Context, next func() error) error) []bus.Middleware {
	return []bus.Middleware{func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			if d.Group != group || d.Message().Name != event {
				return next(ctx, d)
			}
			return instead(ctx, func() error { return next(ctx, d) })
		}
	}}
}

// Bugs of the kind that modules have must not pass unseen.
func TestBugsAreSeen(t *testing.T) {
	forget := func(context.Context, func() error) error { return nil }
	for name, tc := range map[string]struct {
		group, event string
		instead      func(context.Context, func() error) error
		want         []string
	}{
		"the payment is forgotten": {
			"payments", "orders.payable", forget,
			[]string{"FAILED: patience ran out: nothing has moved for 5m", "BOOKS DO NOT BALANCE", "order o-1: came no further than reserved", "held for orders"},
		},
		"the parcel is forgotten": {
			"shipping", "orders.paid", forget, []string{"order o-1: came no further than paid", "money: shipped orders are worth"},
		},
		"the stock of a parcel is forgotten": {
			"inventory", "shipping.shipped", forget, []string{"order o-1: shipped, but its stock is held, and should be gone"},
		},
		"the mail is forgotten": {
			"notifications", "shipping.shipped", forget, []string{"order o-1: shipped, but a mail is false, and should be true"},
		},
		"a line is forgotten": {
			"orders", "intake.line", forget, []string{"1 lines were read, and 0 are accounted for"},
		},
		"a module fails for good": {
			"shipping", "orders.paid",
			func(context.Context, func() error) error { return bus.Permanent(errors.New("out of string")) },
			[]string{"order o-1: orders.paid was set aside by shipping: out of string", "came no further than paid"},
		},
		"a module panics": {
			"shipping", "orders.paid",
			func(context.Context, func() error) error { panic("out of paper") },
			[]string{"orders.paid was set aside by shipping: middleware: handler panicked: out of paper", "came no further than paid"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, strings.NewReader(one), breaking(tc.group, tc.event, tc.instead), "--orders", "-", "--patience", "5m")
			r.expect(t, exitFailed, append(tc.want, "!The books balance.")...)
		})
	}
}

// Handlers that are called twice, and such that fail after they have done their work, change nothing.
func TestRepetitionChangesNothing(t *testing.T) {
	input := strings.Join(strings.SplitAfterN(string(builtIn), "\n", 81)[:80], "") // with duplicates and both special cards
	once := run(t, strings.NewReader(input), nil, "--orders", "-")
	once.expect(t, exitOK, "1 declined", "2 more tries", "!0 duplicates")
	for name, again := range map[string]bus.Middleware{
		"twice": func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error { return errors.Join(next(ctx, d), next(ctx, d)) }
		},
		"fails when all is done": func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				err := next(ctx, d)
				if d.Tries == 1 {
					return errors.Join(err, errors.New("fails when all is done"))
				}
				return err
			}
		},
	} {
		// In one group at a time: each that says everything twice doubles what all that follow have to do.
		for _, group := range []string{"orders", "inventory", "payments", "shipping", "notifications"} {
			t.Run(group+" "+name, func(t *testing.T) {
				r := run(t, strings.NewReader(input), []bus.Middleware{func(next bus.Handler) bus.Handler {
					repeat := again(next)
					return func(ctx context.Context, d *bus.Delivery) error {
						if d.Group == group {
							return repeat(ctx, d)
						}
						return next(ctx, d)
					}
				}}, "--orders", "-")
				r.expect(t, exitOK, "The books balance.")
				for row := range theDay {
					if got, want := r.row(row), once.row(row); got != want && row != "retried" {
						t.Errorf("%s: %q, want %q", row, got, want)
					}
				}
			})
		}
	}
}
