package busfx

import (
	"cmp"
	"context"
	"slices"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/declare"
)

// wiringDecl is a declaration on the bus that waits for it.
type wiringDecl struct {
	place   string
	declare func(*bus.Bus)
}

type wiringOut struct {
	fx.Out
	Wiring wiringDecl `group:"postbus.wirings"`
}

// Handle registers a method of a service that the application provides as the handler of group for events of type E, as
// bus.Handle does:
//
//	busfx.Handle("billing", (*Billing).Charge)
func Handle[S any, E bus.Event](group string, handle func(service S, ctx context.Context, event E) error) fx.Option {
	return Wire(func(service S, b *bus.Bus) {
		if handle == nil {
			bus.Handle[E](b, group, nil) // a mistake that the bus reports
			return
		}
		bus.Handle(b, group, func(ctx context.Context, event E) error { return handle(service, ctx, event) })
	})
}

// Upcast registers how an event of an older version becomes one of a newer, as bus.Upcast does.
func Upcast[Old, New bus.Event](fn func(old Old) (New, error)) fx.Option {
	return supply(wiringOut{Wiring: wiringDecl{declare.Place(), func(b *bus.Bus) { bus.Upcast(b, fn) }}})
}

// Wire has a service that the application provides declare what it handles on the bus by itself. The service may be a
// struct of parameters that embeds fx.In.
func Wire[S any](wire func(service S, b *bus.Bus)) fx.Option {
	place := declare.Place()
	return fx.Provide(func(service S) wiringOut {
		return wiringOut{Wiring: wiringDecl{place, func(b *bus.Bus) { wire(service, b) }}}
	})
}

// supply provides a value that may be one of many of its type.
func supply[T any](value T) fx.Option { return fx.Provide(func() T { return value }) }

// sorted puts declarations into the order of their places, for value groups come in none.
func sorted(wirings []wiringDecl) []wiringDecl {
	wirings = slices.Clone(wirings)
	slices.SortStableFunc(wirings, func(a, b wiringDecl) int { return cmp.Compare(a.place, b.place) })
	return wirings
}
