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
	fx.Provide(newBus, newRunning, func() *loopfx.Opened { return &loopfx.Opened{} }),
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
}

// made is a bus and what was wrong with its configuration: then it is one without, so that its wiring can be checked.
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
	b, err := bus.New(cfg)
	if err != nil {
		mistake = errors.Join(mistake, err)
		b, err = bus.New(bare(cfg))
	}
	return made{Bus: b, Problem: problem{mistake}}, err
}

// bare returns of cfg what the wiring is checked against.
func bare(cfg bus.Config) bus.Config {
	bare := bus.Config{Name: cfg.Name, Transport: cfg.Transport, Logger: cfg.Logger, Groups: map[string]bus.GroupConfig{}}
	for name, g := range cfg.Groups {
		if transport.CheckName("group", name) == nil {
			bare.Groups[name] = bus.GroupConfig{Needs: g.Needs, Start: g.Start}
		}
	}
	return bare
}

type runningParams struct {
	fx.In
	Bus        *bus.Bus
	Problem    problem
	Mistakes   []error `group:"postbus.mistakes"`
	Opened     *loopfx.Opened
	Wirings    []wiringDecl `group:"postbus.wirings"`
	Lifecycle  fx.Lifecycle
	Shutdowner fx.Shutdowner
}

// newRunning has all that handlers need among its parameters, so that its hooks come after theirs.
func newRunning(p runningParams) (*Running, error) {
	for _, w := range sorted(p.Wirings) {
		declare.At(p.Bus, w.place, func() { w.declare(p.Bus) })
	}
	if err := errors.Join(errors.Join(p.Mistakes...), p.Problem.err, p.Bus.Check()); err != nil {
		return nil, errors.Join(err, p.Opened.Close())
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
