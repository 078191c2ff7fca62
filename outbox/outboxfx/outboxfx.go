// Package outboxfx has the outbox of an fx application:
//
//	fx.New(
//		configfx.Module("shop.yaml"),
//		storefx.Module,
//		busfx.Module,
//		outboxfx.Module,
//		fx.Provide(NewBilling),
//		outboxfx.Handle("billing", (*Billing).Charge),
//	)
package outboxfx

import (
	"context"
	"log/slog"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/internal/loopfx"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Module provides *outbox.Box in the *store.DB of the application, with its outbox.Config if there is one. Events go
// straight to their topics if that has a Transport, or if the configuration names one database for transport and store.
// Otherwise *outbox.Forwarder, which is nil then, brings them to the transport of the application, with its
// outbox.ForwarderConfig if there is one, and its middleware.Quarantine.
//
// The tables are made, and forwarding and recurring events begin, before the bus starts; they end after it has drained.
var Module = fx.Module("postbus/outbox", fx.Provide(newBox, newRecurring))

// ForwardedElsewhere leaves forwarding to another program.
var ForwardedElsewhere = fx.Supply(elsewhere{true})

type elsewhere struct{ yes bool }

type boxParams struct {
	fx.In
	DB         *store.DB
	Transport  transport.Transport
	Lifecycle  fx.Lifecycle
	Config     outbox.Config          `optional:"true"`
	Forwarder  outbox.ForwarderConfig `optional:"true"`
	Elsewhere  elsewhere              `optional:"true"`
	Quarantine middleware.Quarantine  `optional:"true"`
	Bus        bus.Config             `optional:"true"`
	File       *config.Config         `optional:"true"`
	Logger     *slog.Logger           `optional:"true"`
}

type boxOut struct {
	fx.Out
	Box       *outbox.Box
	Forwarder *outbox.Forwarder
	Err       error `group:"postbus.mistakes"`
}

func newBox(p boxParams) boxOut {
	cfg := p.Config
	if cfg.Transport == nil && p.File != nil && p.File.OneDatabase() {
		cfg.Transport = p.Transport
	}
	if cfg.InboxRetention == 0 && p.File != nil {
		cfg.InboxRetention = p.File.Retention.Inbox
	}
	if cfg.Codecs == nil {
		cfg.Codecs = p.Bus.Codecs
	}
	if cfg.Topic == nil {
		cfg.Topic = p.Bus.Topic
	}
	if cfg.Publishing == nil {
		cfg.Publishing = p.Bus.Publishing
	}
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	out := boxOut{Box: outbox.New(p.DB, cfg)}
	p.Lifecycle.Append(fx.StartHook(out.Box.Prepare))
	if cfg.Transport == nil && !p.Elsewhere.yes {
		out.Forwarder, out.Err = newForwarder(p, out.Box)
	}
	return out
}

func newForwarder(p boxParams, box *outbox.Box) (*outbox.Forwarder, error) {
	cfg := p.Forwarder
	if cfg.Quarantine == nil && p.Quarantine != nil {
		cfg.Quarantine = p.Quarantine
	}
	f, err := outbox.NewForwarder(box, p.Transport, cfg)
	if err != nil {
		return nil, err
	}
	p.Lifecycle.Append(fx.Hook{
		OnStart: f.Start,
		OnStop: func(ctx context.Context) error {
			ctx, cancel := loopfx.Reserve(ctx)
			defer cancel()
			return f.Stop(ctx)
		},
	})
	return f, nil
}

// Handle registers a method of a service that the application provides, as outbox.Handle does: each message takes effect
// once.
func Handle[S any, E bus.Event](group string, handle func(service S, ctx context.Context, tx *outbox.Tx, event E) error) fx.Option {
	type parts struct {
		fx.In
		Service S
		Box     *outbox.Box
	}
	return busfx.Wire(func(p parts, b *bus.Bus) {
		if handle == nil {
			outbox.Handle[E](b, group, p.Box, nil) // a mistake that the bus reports
			return
		}
		outbox.Handle(b, group, p.Box, func(ctx context.Context, tx *outbox.Tx, event E) error {
			return handle(p.Service, ctx, tx, event)
		})
	})
}

// Recurring has an event published by the clock, once however many instances of the application run.
func Recurring(r outbox.Recurring) fx.Option {
	return fx.Provide(func() scheduleOut { return scheduleOut{Schedule: r} })
}

type scheduleOut struct {
	fx.Out
	Schedule outbox.Recurring `group:"postbus.recurring"`
}

type recurringParams struct {
	fx.In
	Box       *outbox.Box
	Schedules []outbox.Recurring `group:"postbus.recurring"`
	Lifecycle fx.Lifecycle
}

// newRecurring provides what is wrong with schedules, for which the bus asks before it starts.
func newRecurring(p recurringParams) busfx.Mistake {
	if len(p.Schedules) == 0 {
		return busfx.Mistake{}
	}
	s, err := outbox.NewScheduler(p.Box, p.Schedules...)
	if err == nil {
		p.Lifecycle.Append(fx.Hook{OnStart: s.Start, OnStop: s.Stop})
	}
	return busfx.Mistake{Err: err}
}
