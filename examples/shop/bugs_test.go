package main

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/examples/shop/payments"
)

// around runs m inside of the chain, around each try of each handler.
func around(m bus.Middleware) fx.Option {
	return busfx.Middleware(1, func() bus.Middleware { return m })
}

// breaking does something else instead of what group does with event.
func breaking(group, event string, instead func(ctx context.Context, next func() error) error) fx.Option {
	return around(func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			if d.Group != group || d.Message().Name != event {
				return next(ctx, d)
			}
			return instead(ctx, func() error { return next(ctx, d) })
		}
	})
}

// Bugs of the kind that modules have must not pass unseen.
func TestBugsAreSeen(t *testing.T) {
	t.Parallel()
	forget := func(context.Context, func() error) error { return nil }
	for name, tc := range map[string]struct {
		group, event string
		instead      func(context.Context, func() error) error
		want         []string
	}{
		"the payment is forgotten": {
			"payments", "checkout.payable", forget,
			[]string{"FAILED: patience ran out: nothing has moved for ", "BOOKS DO NOT BALANCE", "order o-1: came no further than placed"},
		},
		"the parcel is forgotten": {
			"shipping", "checkout.paid", forget,
			[]string{"order o-1: came no further than placed", "order o-1: placed for 900 cents, but its payment is charged", "but the bank has received 900"},
		},
		"the stock of a parcel is forgotten": {
			"inventory", "shipping.shipped", forget, []string{"order o-1: shipped, but its stock is held", "stock of cup: 0 are gone, and 2 are in parcels"},
		},
		"the mail is forgotten": {
			"notifications", "shipping.shipped", forget, []string{"order o-1: shipped, but the mail about it says nothing"},
		},
		"a line is forgotten": {
			"orders", "intake.line", forget, []string{"1 lines were read, and 0 are accounted for"},
		},
		"a module fails for good": {
			"shipping", "checkout.paid",
			func(context.Context, func() error) error { return bus.Permanent(errors.New("out of string")) },
			[]string{"order o-1: checkout.paid was set aside by shipping: out of string", "came no further than placed"},
		},
		"a module panics": {
			"shipping", "checkout.paid",
			func(context.Context, func() error) error { panic("out of paper") },
			[]string{"checkout.paid was set aside by shipping: middleware: handler panicked: out of paper", "came no further than placed"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r result
			// On a slow machine more may come to a stop than what the bug stops, for longer than a short patience lasts.
			for patience := 2 * time.Second; patience < time.Minute && !r.says(tc.want...); patience *= 5 {
				r = runInside(t, strings.NewReader(one), breaking(tc.group, tc.event, tc.instead), "--orders", "-", "--patience", patience.String())
			}
			r.expect(t, exitFailed, append(tc.want, "!The books balance.")...)
		})
	}
}

// Whoever waits too short a time is told so, before what is therefore not finished.
func TestPatience(t *testing.T) {
	t.Parallel()
	forgotten := breaking("payments", "checkout.payable", func(context.Context, func() error) error { return nil })
	r := runInside(t, strings.NewReader(one), forgotten, "--orders", "-", "--patience", "1ms")
	r.expect(t, exitFailed, "FAILED: patience ran out: nothing has moved for 1ms.\n\nTHE BOOKS DO NOT BALANCE:")
}

// Handlers that are called twice, and such that fail after they have done their work, change nothing.
func TestRepetitionChangesNothing(t *testing.T) {
	t.Parallel()
	card := func(id, card string) string {
		return strings.NewReplacer("o-1", id, "card-1", card).Replace(one)
	}
	input := strings.Join([]string{one, two, one, card("o-3", payments.CardDeclined), card("o-4", payments.CardFlaky),
		with("o-6", `{"sku":"yacht","quantity":1,"cents":1}`), "{"}, "\n")
	once := run(t, input, "--orders", "-")
	once.expect(t, exitOK, "card declined             1", "2 more tries", "duplicates ignored        1")
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := runInside(t, strings.NewReader(input), around(again), "--orders", "-")
			r.expect(t, exitOK, "The books balance.")
			for row := range theDay {
				if got, want := r.row(row), once.row(row); got != want && row != "retried" {
					t.Errorf("%s: %q, want %q", row, got, want)
				}
			}
		})
	}
}

// The day is not over while money is to be given back.
func TestASlowRefundIsWaitedFor(t *testing.T) {
	t.Parallel()
	slow := breaking("payments", "checkout.unpayable", func(ctx context.Context, next func() error) error {
		select {
		case <-time.After(500 * time.Millisecond):
		case <-bus.Stopping(ctx):
			return errors.New("nobody has waited")
		}
		return next()
	})
	r := runInside(t, strings.NewReader(silent), slow, "--orders", "-")
	r.expect(t, exitOK, "never paid                1", "The books balance.")
}
