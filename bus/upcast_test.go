package bus_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// Versions of an event; the last is numbered by its date, as some do.
type (
	priced1 struct{ Euros int }
	priced2 struct{ Cents int }
	priced3 struct {
		Cents    int
		Currency string
	}
	pricedDated struct{ Text string }
)

func (priced1) EventName() string      { return "goods.priced" }
func (priced2) EventName() string      { return "goods.priced" }
func (priced2) EventVersion() int      { return 2 }
func (priced3) EventName() string      { return "goods.priced" }
func (priced3) EventVersion() int      { return 3 }
func (*pricedDated) EventName() string { return "goods.priced" }
func (*pricedDated) EventVersion() int { return 1_999_123_101 }

func upcast12(old priced1) (priced2, error) {
	if old.Euros < 0 {
		return priced2{}, errors.New("negative")
	}
	return priced2{old.Euros * 100}, nil
}

func upcast23(old priced2) (priced3, error) { return priced3{old.Cents, "EUR"}, nil }

func TestUpcastsChain(t *testing.T) {
	t.Parallel()
	for _, share := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var newest record[priced3]
			var both record[string]
			var s spy
			b := run(t, bus.Config{
				Transport:  memory.New(memory.Config{Share: share}),
				Middleware: []bus.Middleware{swallow},
				Groups:     group("newest", bus.GroupConfig{Middleware: []bus.Middleware{s.middleware}, Workers: 1}),
			}, func(b *bus.Bus) {
				bus.Upcast(b, upcast12)
				bus.Handle(b, "newest", newest.handle)
				bus.Handle(b, "both", func(context.Context, priced1) error { both.add("1"); return nil })
				bus.Handle(b, "both", func(context.Context, priced3) error { both.add("3"); return nil })
				bus.Upcast(b, upcast23)
			})
			publish(t, b, priced1{3})
			synctest.Wait()
			publish(t, b, priced2{450})
			synctest.Wait()
			publish(t, b, priced3{1, "USD"})
			synctest.Wait()
			expect(t, "newest", newest.all(), []priced3{{300, "EUR"}, {450, "EUR"}, {1, "USD"}})
			expect(t, "both", both.all(), []string{"1", "3", "3"})

			publish(t, b, priced1{-1}, &pricedDated{"x"})
			synctest.Wait()
			errs := s.errs.all()[3:]
			if len(errs) != 2 || !bus.IsPermanent(errs[0]) || !errors.Is(errs[1], bus.ErrVersion) {
				t.Fatalf("outcomes: %v", errs)
			}
			expectError(t, errs[0], "negative", "goods.priced", "2")
			expectError(t, errs[1], "known: 1, 2, 3", "1999123101")
		})
	}
}

// TestLargeVersionNumber: a version may be any number, at no cost in memory.
func TestLargeVersionNumber(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen record[string]
		b := run(t, bus.Config{}, func(b *bus.Bus) {
			bus.Upcast(b, func(old priced1) (*pricedDated, error) { return &pricedDated{"from 1"}, nil })
			bus.Handle(b, "g", func(_ context.Context, e *pricedDated) error { seen.add(e.Text); return nil })
		})
		publish(t, b, priced1{1})
		synctest.Wait()
		publish(t, b, &pricedDated{"dated"})
		synctest.Wait()
		expect(t, "handled", seen.all(), []string{"from 1", "dated"})
	})
}

func TestUpcastOfWhatCannotBeDecoded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		var s spy
		run(t, bus.Config{Transport: tr, Middleware: []bus.Middleware{swallow, s.middleware}}, func(b *bus.Bus) {
			bus.Upcast(b, upcast12)
			bus.Handle(b, "g", func(context.Context, priced2) error { return nil })
		})
		foreign(t, tr, "goods", transport.Message{Name: "goods.priced", Payload: []byte(`{"Euros":"many"}`)})
		synctest.Wait()
		if errs := s.errs.all(); len(errs) != 1 || !errors.Is(errs[0], bus.ErrDecode) || !bus.IsPermanent(errs[0]) {
			t.Errorf("outcomes: %v", errs)
		}
	})
}
