package main

import (
	"context"
	"fmt"
	"net/url"

	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/transport"
)

// connection is where a command looks.
type connection struct{ config, transport, store string }

// transportURL returns that of the flag, the variable or the file.
func (c *call) transportURL() (string, error) {
	raw, err := c.url(c.transport, func(cfg *config.Config) config.URL { return cfg.Transport })
	if err != nil {
		return "", err
	}
	if raw == "" {
		return "", usage("which transport? Say --transport URL, or set POSTBUS_TRANSPORT, or --config FILE")
	}
	if u, err := url.Parse(raw); err == nil && u.Scheme == "memory" {
		return "", usage("the transport memory: lives within one process, where no other can see it")
	}
	return raw, nil
}

// storeURL likewise.
func (c *call) storeURL() (string, error) {
	raw, err := c.url(c.store, func(cfg *config.Config) config.URL { return cfg.Store })
	if err == nil && raw == "" {
		err = usage("which database? Say --store URL, or set POSTBUS_STORE, or --config FILE")
	}
	return raw, err
}

func (c *call) url(flag string, from func(*config.Config) config.URL) (string, error) {
	if flag != "" {
		return flag, nil
	}
	cfg, err := config.Load(c.config, c.environ)
	if err != nil {
		return "", err
	}
	return string(from(cfg)), nil
}

// openTransport opens the transport; the caller closes it.
func (c *call) openTransport(ctx context.Context) (transport.Transport, error) {
	raw, err := c.transportURL()
	if err != nil {
		return nil, err
	}
	return transport.Open(ctx, raw)
}

// does returns what t implements besides transport.Transport.
func does[T any](t transport.Transport, what string) (T, error) {
	v, ok := t.(T)
	if !ok {
		return v, fmt.Errorf("this transport (%T) cannot tell %s", t, what)
	}
	return v, nil
}
