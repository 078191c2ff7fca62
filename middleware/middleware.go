// Package middleware has what stands around the handlers of a bus. Each middleware is used by itself; [Standard] puts
// them in the right order:
//
//	bus.New(bus.Config{
//		Transport:  t,
//		Middleware: middleware.Standard(middleware.StandardConfig{Quarantine: store}),
//	})
//
// A middleware has the whole delivery in its hands, once per delivery, except inside of [Retry], where it has every try.
// One that is in bus.Config.Middleware is shared by all groups: a [Throttle] or a [Breaker] there counts what all of them
// do together, and in bus.GroupConfig.Middleware what one of them does.
//
// Configs are copied; negative numbers in them count as zero, and zero as the default that the field states.
package middleware

import "time"

// orDefault returns v, or otherwise if v is not positive.
func orDefault[N int | float64 | time.Duration](v, otherwise N) N {
	if v <= 0 {
		return otherwise
	}
	return v
}
