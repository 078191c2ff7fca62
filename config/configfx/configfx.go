// Package configfx configures an fx application from outside: a file, and the environment over it.
//
//	fx.New(
//		configfx.Module("shop.yaml"),
//		busfx.Module,
//		fx.Provide(NewBilling),
//		busfx.Handle("billing", (*Billing).Charge),
//	)
//
// The driver of the transport must be linked in, by an import of its package. The transport is opened by a constructor,
// for what it can do is checked with the wiring, and closed after the bus has stopped.
package configfx

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/internal/loopfx"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
)

// Module provides *config.Config, transport.Transport and bus.Config of a file, or of the environment alone if its name
// is empty. All mistakes of the configuration are an error of fx.New, together with those of the wiring.
//
// What only code can say about the bus, such as its codecs, is for fx.Decorate:
//
//	fx.Decorate(func(cfg bus.Config) bus.Config { cfg.Codecs = …; return cfg })
//
// The standard chain has the middleware.Quarantine that the application provides, its bus.Middleware named
// "postbus.telemetry" and that named "postbus.dedup", if any; publishing has its bus.PublishMiddleware named
// "postbus.telemetry".
func Module(file string) fx.Option { return Load(file, os.Environ()) }

// Load is Module with an environment of the caller's, in the form of os.Environ.
func Load(file string, environ []string) fx.Option {
	return fx.Module("postbus/config",
		fx.Provide(
			func() (*config.Config, loaded) {
				cfg, err := config.Load(file, environ)
				return cfg, loaded{err}
			},
			func(l loaded) busfx.Mistake { return busfx.Mistake{Err: l.err} },
			openTransport,
			newBusConfig,
		),
	)
}

// loaded is what was wrong with the configuration.
type loaded struct{ err error }

type opened struct {
	fx.Out
	Transport transport.Transport
	Err       error `group:"postbus.mistakes"`
}

type transportParams struct {
	fx.In
	Lifecycle fx.Lifecycle
	Config    *config.Config
	Loaded    loaded
	Opened    *loopfx.Opened `optional:"true"`
}

func openTransport(p transportParams) opened {
	cfg, l := p.Config, p.Loaded
	ctx, cancel := context.WithTimeout(context.Background(), fx.DefaultTimeout)
	defer cancel()
	if l.err != nil && cfg.Transport == "" { // it is what is wrong, or it is not known whether it is
		return opened{Transport: closed{everything}}
	}
	t, err := cfg.OpenTransport(ctx)
	if err != nil {
		return opened{Transport: closed{everything}, Err: fmt.Errorf("config: %w", err)}
	}
	if l.err != nil { // nothing will start: its capabilities are all that is asked for
		defer t.Close()
		return opened{Transport: closed{t.Capabilities()}}
	}
	p.Opened.CloseAtStop(p.Lifecycle, t.Close)
	return opened{Transport: t}
}

// closed stands for a transport in an application that fails to be built, where it is asked for its capabilities only.
type closed struct{ capabilities transport.Capabilities }

// everything is what a transport of which nothing is known can do, so that no group seems to lack it.
var everything = transport.Capabilities{
	Durable: true, Order: transport.OrderPerTopic, Delay: true, Target: true, Replay: true, Transactional: true, Values: true,
}

func (c closed) Capabilities() transport.Capabilities { return c.capabilities }
func (c closed) Close() error                         { return nil }

func (c closed) Publish(context.Context, string, []transport.Message) error {
	return transport.ErrClosed
}

func (c closed) Subscribe(context.Context, transport.SubscribeConfig) (transport.Subscription, error) {
	return nil, transport.ErrClosed
}

type chainParams struct {
	fx.In
	Config     *config.Config
	Transport  transport.Transport
	Logger     *slog.Logger          `optional:"true"`
	Quarantine middleware.Quarantine `optional:"true"`
	Telemetry  bus.Middleware        `name:"postbus.telemetry" optional:"true"`
	Publishing bus.PublishMiddleware `name:"postbus.telemetry" optional:"true"`
	Dedup      bus.Middleware        `name:"postbus.dedup" optional:"true"`
}

func newBusConfig(p chainParams) bus.Config {
	cfg := p.Config.Bus(p.Transport, middleware.StandardConfig{
		Log: middleware.LogConfig{Logger: p.Logger}, Quarantine: p.Quarantine, Telemetry: p.Telemetry, Dedup: p.Dedup,
	})
	if p.Publishing != nil {
		cfg.Publishing = []bus.PublishMiddleware{p.Publishing}
	}
	return cfg
}
