package busfx

import (
	"cmp"
	"slices"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/declare"
)

type middlewareDecl struct {
	order      int
	place      string
	middleware bus.Middleware
}

type middlewareOut struct {
	fx.Out
	Middleware middlewareDecl `group:"postbus.middleware"`
}

// Middleware puts what constructor returns around every delivery of every group. The constructor is a function as
// fx.Provide takes them; it returns a bus.Middleware, and an error if it likes.
//
// The chain is in the order of the numbers: those below zero stand outside of bus.Config.Middleware, the others inside.
// Equal numbers are in the order of their places in the code.
func Middleware(order int, constructor any) fx.Option {
	place := declare.Place()
	name := declare.Name("middleware")
	return fx.Options(
		fx.Provide(fx.Annotate(constructor, fx.ResultTags(name))),
		fx.Provide(fx.Annotate(func(m bus.Middleware) middlewareOut {
			return middlewareOut{Middleware: middlewareDecl{order, place, m}}
		}, fx.ParamTags(name))),
	)
}

// around returns chain with the declared middleware outside and inside of it.
func around(chain []bus.Middleware, declared []middlewareDecl) []bus.Middleware {
	declared = slices.Clone(declared)
	slices.SortFunc(declared, func(a, b middlewareDecl) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.place, b.place))
	})
	var outside, inside []bus.Middleware
	for _, d := range declared {
		if d.order < 0 {
			outside = append(outside, d.middleware)
		} else {
			inside = append(inside, d.middleware)
		}
	}
	return slices.Concat(outside, chain, inside)
}
