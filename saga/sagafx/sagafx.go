// Package sagafx runs sagas in an fx application:
//
//	fx.New(
//		configfx.Module("shop.yaml"),
//		storefx.Module,
//		busfx.Module,
//		outboxfx.Module,
//		sagafx.Module,
//		sagafx.Define(Checkout),
//	)
package sagafx

import (
	"cmp"
	"context"
	"log/slog"
	"slices"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/internal/declare"
	"github.com/postbus/postbus/internal/loopfx"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
)

// Module provides *saga.Orchestrator, of the sagas that the application defines, in its *outbox.Box; with its saga.Config
// if there is one. It starts before the bus and stops after it has drained.
var Module = fx.Module("postbus/saga", fx.Provide(newOrchestrator), busfx.Wire(func(*saga.Orchestrator, *bus.Bus) {}))

// Define adds a saga.
func Define(s saga.Saga) fx.Option { return Provide(func() saga.Saga { return s }) }

// Provide adds the saga that constructor makes of what the application provides: a function as fx.Provide takes them, which
// returns a saga.Saga, and an error if it likes.
func Provide(constructor any) fx.Option {
	place := declare.Place()
	name := declare.Name("saga")
	return fx.Options(
		fx.Provide(fx.Annotate(constructor, fx.ResultTags(name))),
		fx.Provide(fx.Annotate(func(s saga.Saga) sagaOut { return sagaOut{Saga: sagaDecl{place, s}} }, fx.ParamTags(name))),
	)
}

type sagaDecl struct {
	place string
	saga  saga.Saga
}

type sagaOut struct {
	fx.Out
	Saga sagaDecl `group:"postbus.sagas"`
}

type orchestratorParams struct {
	fx.In
	Bus       *bus.Bus
	Box       *outbox.Box
	Lifecycle fx.Lifecycle
	Sagas     []sagaDecl     `group:"postbus.sagas"`
	Config    saga.Config    `optional:"true"`
	File      *config.Config `optional:"true"`
	Logger    *slog.Logger   `optional:"true"`
	Telemetry saga.Hook      `name:"postbus.telemetry" optional:"true"`
}

type orchestratorOut struct {
	fx.Out
	Orchestrator *saga.Orchestrator
	Err          error `group:"postbus.mistakes"`
}

func newOrchestrator(p orchestratorParams) orchestratorOut {
	sagas := slices.SortedFunc(slices.Values(p.Sagas), func(a, b sagaDecl) int { return cmp.Compare(a.place, b.place) })
	cfg := p.Config
	cfg.Sagas = slices.Clone(cfg.Sagas)
	for _, s := range sagas {
		cfg.Sagas = append(cfg.Sagas, s.saga)
	}
	if p.Telemetry.Observe != nil || p.Telemetry.Around != nil {
		cfg.Hooks = append([]saga.Hook{p.Telemetry}, cfg.Hooks...)
	}
	if cfg.Retention == 0 && p.File != nil {
		cfg.Retention = p.File.Retention.Sagas
	}
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	o, err := saga.New(p.Bus, p.Box, cfg)
	if err != nil {
		return orchestratorOut{Err: err}
	}
	p.Lifecycle.Append(fx.Hook{
		OnStart: o.Start,
		OnStop: func(ctx context.Context) error {
			ctx, cancel := loopfx.Reserve(ctx)
			defer cancel()
			return o.Stop(ctx)
		},
	})
	return orchestratorOut{Orchestrator: o}
}
