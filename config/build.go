package config

import (
	"cmp"
	"context"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
)

// DefaultTransport is that of a configuration without one.
const DefaultTransport = "memory:"

// OpenTransport opens Transport. Its driver must be linked in; ctx bounds the opening only, and the caller closes it.
func (c *Config) OpenTransport(ctx context.Context) (transport.Transport, error) {
	return transport.Open(ctx, cmp.Or(string(c.Transport), DefaultTransport))
}

// Bus returns the configuration of a bus on t. Its middleware is the standard chain of base, each group with what the
// configuration says about it; base has what is made in code, such as the quarantine.
func (c *Config) Bus(t transport.Transport, base middleware.StandardConfig) bus.Config {
	cfg := bus.Config{
		Name: c.Name, Transport: t, StopTimeout: c.StopTimeout, Logger: base.Log.Logger,
		Middleware: []bus.Middleware{c.Chain(base)},
		Groups:     map[string]bus.GroupConfig{},
	}
	for name, g := range c.Groups {
		cfg.Groups[name] = g.bus()
	}
	return cfg
}

func (g Group) bus() bus.GroupConfig {
	cfg := bus.GroupConfig{
		Workers: g.Workers, Prefetch: g.Prefetch, KeepOrder: g.KeepOrder, MinBackoff: g.Backoff.Min, MaxBackoff: g.Backoff.Max,
	}
	if g.Delivery == "at most once" {
		cfg.Delivery = bus.AtMostOnce
	}
	return cfg
}

// Chain returns the standard chain, as Bus has it.
func (c *Config) Chain(base middleware.StandardConfig) bus.Middleware {
	if k := c.KillSwitch; k != nil && base.KillSwitch == nil {
		base.KillSwitch = middleware.NewKillSwitch(middleware.KillSwitchConfig{
			Rate: k.Rate, MinDeliveries: k.MinDeliveries, Window: k.Window, Pause: k.Pause, Logger: base.Log.Logger,
		})
	}
	others := middleware.Standard(standard(base, c.Policy))
	groups := map[string][]bus.Middleware{}
	for name, g := range c.Groups {
		groups[name] = middleware.Standard(standard(base, over(g.Policy, c.Policy)))
	}
	return func(next bus.Handler) bus.Handler {
		rest, chains := wrap(others, next), map[string]bus.Handler{}
		for name, chain := range groups {
			chains[name] = wrap(chain, next)
		}
		return func(ctx context.Context, d *bus.Delivery) error {
			if chain := chains[d.Group]; chain != nil {
				return chain(ctx, d)
			}
			return rest(ctx, d)
		}
	}
}

func wrap(chain []bus.Middleware, h bus.Handler) bus.Handler {
	for i := len(chain) - 1; i >= 0; i-- {
		h = chain[i](h)
	}
	return h
}

// standard returns base with what p says.
func standard(base middleware.StandardConfig, p Policy) middleware.StandardConfig {
	base.Attempts = cmp.Or(p.Attempts, base.Attempts)
	base.Timeout = cmp.Or(p.Timeout, base.Timeout)
	if p.Delays != nil {
		base.Delays = p.Delays
	}
	base.Retry.Attempts = cmp.Or(p.Retry.Attempts, base.Retry.Attempts)
	base.Retry.Delay = cmp.Or(p.Retry.Delay, base.Retry.Delay)
	base.Retry.MaxDelay = cmp.Or(p.Retry.MaxDelay, base.Retry.MaxDelay)
	return base
}

// over returns p where it speaks, and under where it does not.
func over(p, under Policy) Policy {
	if p.Delays == nil {
		p.Delays = under.Delays
	}
	return Policy{
		Attempts: cmp.Or(p.Attempts, under.Attempts),
		Delays:   p.Delays,
		Timeout:  cmp.Or(p.Timeout, under.Timeout),
		Retry: Retry{
			Attempts: cmp.Or(p.Retry.Attempts, under.Retry.Attempts),
			Delay:    cmp.Or(p.Retry.Delay, under.Retry.Delay),
			MaxDelay: cmp.Or(p.Retry.MaxDelay, under.Retry.MaxDelay),
		},
	}
}
