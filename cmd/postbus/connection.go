package main

import (
	"context"
	"fmt"
	"net/url"
	"os"

	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/internal/dburl"
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
	return raw, seen("transport", raw)
}

// storeURL likewise.
func (c *call) storeURL() (string, error) {
	raw, err := c.url(c.store, func(cfg *config.Config) config.URL { return cfg.Store })
	if err != nil {
		return "", err
	}
	if raw == "" {
		return "", usage("which database? Say --store URL, or set POSTBUS_STORE, or --config FILE")
	}
	return raw, seen("database", raw)
}

// seen reports why no program but its own can see what raw names, or that an SQLite file is not there: opening would make
// an empty one, in which all is well. Whatever else is wrong is for those who open it.
func seen(what, raw string) error {
	u, err := url.Parse(raw)
	if err != nil {
		return nil
	}
	var file string
	if u.Scheme == "sqlite" {
		if file, err = dburl.File(u); err != nil {
			return nil
		}
	}
	if u.Scheme == "memory" || file == dburl.InMemory {
		return usage("the %s %s lives within one process, where no other can see it", what, raw)
	}
	if file == "" {
		return nil
	}
	if _, err := os.Stat(file); err != nil {
		return fmt.Errorf("the %s sqlite:%s is not there: %w; a program makes it when it first runs", what, file, err)
	}
	return nil
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
