// Package busfx wires a bus in an fx application:
//
//	fx.New(
//		busfx.Module,
//		fx.Provide(openTransport, NewBilling),
//		busfx.Handle("billing", (*Billing).Charge),
//	)
//
// [Module] makes the *bus.Bus, which is also the bus.Publisher that services take, of what the application provides: a
// transport.Transport, and if it likes a bus.Config and a *slog.Logger. With package config/configfx the transport and
// the configuration come from a file and the environment.
//
// # Order of life
//
// What handlers and middleware need, however indirectly, and the transport, start before the bus and stop after it has
// drained, whatever the order of modules, as long as each appends its hooks to the lifecycle where it is made, in its
// constructor, as fx recommends. Who closes the transport appends the hook in the constructor that provides it.
//
// What feeds the bus from outside, a server for one, should start after it and stop before it: its constructor takes a
// [Running].
//
// The drain takes its deadline from the context of the stop hook, and leaves a fifth of that (at most five seconds) to
// those that stop after it, for fx runs no hook once the time is up. A bus that cannot go on (bus.Bus.Failed) shuts the
// application down with exit code 1.
//
// Mistakes of the wiring are an error of fx.New, all at once, each with the place in the code, before anything starts.
package busfx
