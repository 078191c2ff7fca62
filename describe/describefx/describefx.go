// Package describefx describes the wiring of an fx application:
//
//	fx.New(
//		busfx.Module,
//		describefx.Module,
//		describefx.Publishes("billing", Paid{}, Declined{}),
//		fx.Invoke(func(p describe.Program) { fmt.Print(describe.Mermaid(p)) }),
//	)
package describefx

import (
	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/describe"
)

// Module provides the describe.Program of the application: what its modules handle, and what Publishes says that they
// publish. It need not be started for that.
var Module = fx.Module("postbus/describe", fx.Provide(newProgram))

type publishes struct {
	module string
	events []bus.Event
}

type publishesOut struct {
	fx.Out
	Publishes publishes `group:"postbus.publishes"`
}

// Publishes says which events a module publishes, for a bus knows only who handles them. Nothing depends on it but what
// Module provides.
func Publishes(module string, events ...bus.Event) fx.Option {
	return fx.Provide(func() publishesOut { return publishesOut{Publishes: publishes{module, events}} })
}

type params struct {
	fx.In
	Running   *busfx.Running // once all is wired
	Bus       *bus.Bus
	Config    bus.Config  `optional:"true"`
	Publishes []publishes `group:"postbus.publishes"`
}

func newProgram(p params) describe.Program {
	program := describe.Program{Description: p.Bus.Describe(), Topic: p.Config.Topic, Publishes: map[string][]bus.Event{}}
	for _, of := range p.Publishes {
		program.Publishes[of.module] = append(program.Publishes[of.module], of.events...)
	}
	return program
}
