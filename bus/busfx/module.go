package busfx

import (
	"context"
	"errors"
	"log/slog"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/declare"
	"github.com/postbus/postbus/internal/loopfx"
	"github.com/postbus/postbus/transport"
)

// Module provides *bus.Bus, bus.Publisher and *Running, and starts and stops the bus with the application.
var Module = fx.Module("postbus/bus",
	fx.Provide(newBus, newRunning),
	fx.Provide(func(b *bus.Bus) bus.Publisher { return b }),
	fx.Invoke(func(*Running) {}),
)

// Running is what a constructor takes whose hooks shall start after the bus and stop before it, such as that of a server
// which publishes what it is sent. A service with handlers cannot take it: the bus starts after those.
type Running struct{ _ byte }

// Mistake reports to Module what is wrong with the configuration, from a constructor that provides the rest all the same:
// it fails the application together with the mistakes of the wiring. Nil is no mistake.
type Mistake struct {
	fx.Out
	Err error `group:"postbus.mistakes"`
}

type busParams struct {
	fx.In
	Config     bus.Config          `optional:"true"`
	Transport  transport.Transport `optional:"true"`
	Logger     *slog.Logger        `optional:"true"`
	Groups     []groupDecl         `group:"postbus.groups"`
	Middleware []middlewareDecl    `group:"postbus.middleware"`
	Mistakes   []error             `group:"postbus.mistakes"`
}

// made is a bus and what was wrong already when it was made.
type made struct {
	fx.Out
	Bus     *bus.Bus
	Problem problem
}

type problem struct{ err error }

func newBus(p busParams) (made, error) {
	cfg := p.Config
	if cfg.Transport == nil {
		cfg.Transport = p.Transport
	}
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	cfg.Middleware = around(cfg.Middleware, p.Middleware)
	var mistake error
	cfg.Groups, mistake = mergeGroups(cfg.Groups, p.Groups)
	mistake = errors.Join(errors.Join(p.Mistakes...), mistake)
	b, err := bus.New(cfg)
	if err != nil {
		return made{}, errors.Join(mistake, err)
	}
	return made{Bus: b, Problem: problem{mistake}}, nil
}

type runningParams struct {
	fx.In
	Bus        *bus.Bus
	Problem    problem
	Wirings    []wiringDecl `group:"postbus.wirings"`
	Lifecycle  fx.Lifecycle
	Shutdowner fx.Shutdowner
}

// newRunning has all that handlers need among its parameters, so that its hooks come after theirs.
func newRunning(p runningParams) (*Running, error) {
	for _, w := range sorted(p.Wirings) {
		declare.At(p.Bus, w.place, func() { w.declare(p.Bus) })
	}
	if err := errors.Join(p.Problem.err, p.Bus.Check()); err != nil {
		return nil, err
	}
	p.Lifecycle.Append(fx.Hook{
		OnStart: p.Bus.Start,
		OnStop: func(ctx context.Context) error {
			ctx, cancel := loopfx.Reserve(ctx)
			defer cancel()
			return p.Bus.Stop(ctx)
		},
	})
	loopfx.Append(p.Lifecycle, p.Shutdowner, "postbus", func(ctx context.Context) error {
		select {
		case <-p.Bus.Failed():
			return p.Bus.Err()
		case <-ctx.Done():
			return nil
		}
	})
	return &Running{}, nil
}
