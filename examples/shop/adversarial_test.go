package main

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
	"github.com/postbus/postbus/examples/shop/orders"
	"github.com/postbus/postbus/examples/shop/payments"
)

// The shop under a transport that repeats and reorders what it may, and with a process that dies again and again: the
// books, which stay as those in a database would, balance in the end.
func TestAdversarial(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed+1), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, alive := &shop{}, &publisher{}
				s.build(alive)
				p := bustest.Run(t, func(b *bus.Bus) { alive.Bus = b; s.wire(b) }, bustest.Config(s.configure), bustest.Adversarial(seed+1))
				input := strings.Join([]string{
					one, two, one, strings.NewReplacer("o-1", "o-3", "card-1", payments.CardDeclined).Replace(one), `{"id":`,
					strings.NewReplacer("o-1", "o-4", "card-1", payments.CardFlaky).Replace(one), with("o-5", `{"sku":"yacht","quantity":1,"cents":1}`),
				}, "\n")
				if err := s.feed(alive).Run(t.Context(), strings.NewReader(input)); err != nil {
					t.Fatal(err)
				}
				p.Settle()
				b := s.books()
				for _, fault := range b.faults() {
					t.Error(fault)
				}
				got := s.tally()
				if want := (orders.Counts{Orders: 5, Final: 5, Shipped: 3, Declined: 1, Refused: 1, Duplicates: 1}); got.orders != want || !got.settled() {
					t.Errorf("%+v: want all lines settled, and %+v", got, want)
				}
			})
		})
	}
}

// publisher publishes on the bus of the process that is alive.
type publisher struct{ *bus.Bus }

func (p *publisher) Publish(ctx context.Context, events ...bus.Event) error {
	return p.Bus.Publish(ctx, events...)
}
