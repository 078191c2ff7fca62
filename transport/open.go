package transport

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// An Opener makes a transport from a URL of its scheme. It refuses parameters that it does not know, by an error that
// lists those it does; it never puts a password into an error.
type Opener func(ctx context.Context, u *url.URL) (Transport, error)

var registry struct {
	sync.RWMutex
	openers map[string]Opener
}

// providers are the packages of this module that register each scheme, for the error that says what to import.
var providers = map[string]string{
	"memory":     "github.com/postbus/postbus/transport/memory",
	"sqlite":     "github.com/postbus/postbus/transport/sqlite",
	"postgres":   "github.com/postbus/postbus/transport/postgres",
	"postgresql": "github.com/postbus/postbus/transport/postgres",
	"mysql":      "github.com/postbus/postbus/transport/mysql",
	"amqp":       "github.com/postbus/postbus/transport/rabbitmq",
	"amqps":      "github.com/postbus/postbus/transport/rabbitmq",
}

// Register makes a driver known to [Open] by the scheme of its URLs. Drivers call it from init. Like
// database/sql.Register, it panics if open is nil or the scheme is taken, for both are mistakes of the program's text.
func Register(scheme string, open Opener) {
	registry.Lock()
	defer registry.Unlock()
	if open == nil {
		panic("transport: Register of a nil opener for " + scheme)
	}
	if _, taken := registry.openers[scheme]; taken {
		panic("transport: Register called twice for " + scheme)
	}
	if registry.openers == nil {
		registry.openers = map[string]Opener{}
	}
	registry.openers[scheme] = open
}

// Open opens the transport that rawURL names, such as "memory:", by the driver that has registered the scheme. The
// context bounds the opening only. The caller closes what it gets.
//
// No error of Open holds a password of the URL.
func Open(ctx context.Context, rawURL string) (Transport, error) {
	u, open, err := lookUp(rawURL)
	if err != nil {
		return nil, err
	}
	t, err := open(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("transport: open %s: %w", display(u), err)
	}
	return t, nil
}

// CheckURL reports what Open would refuse before it asks the driver: what is no URL, and a scheme that no driver has
// registered. It opens nothing.
func CheckURL(rawURL string) error {
	_, _, err := lookUp(rawURL)
	return err
}

func lookUp(rawURL string) (*url.URL, Opener, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		// The text of a url.Error holds the URL and with it the password: only the cause under it is safe to show.
		if parse, ok := err.(*url.Error); ok {
			err = parse.Err
		}
		return nil, nil, fmt.Errorf("transport: open: not a URL: %w", redact(err, rawURL))
	}
	registry.RLock()
	open, known := registry.openers[u.Scheme]
	schemes := slices.Sorted(maps.Keys(registry.openers))
	registry.RUnlock()
	if !known {
		return nil, nil, unknownScheme(u.Scheme, schemes)
	}
	return u, open, nil
}

// display is u for errors, without a password. A password with a "/", "?" or "#" that should have been escaped ends up
// outside of what Redacted knows; then the "@" behind it is there too, and the scheme is all that is safe to show.
func display(u *url.URL) string {
	if rest := (&url.URL{Opaque: u.Opaque, Path: u.Path, RawQuery: u.RawQuery, Fragment: u.Fragment}); strings.Contains(rest.String(), "@") {
		return u.Scheme + ":…"
	}
	return u.Redacted()
}

// redact drops causes that quote a part of the URL, such as "invalid port": what they quote can be the password.
func redact(err error, rawURL string) error {
	if strings.Contains(rawURL, "@") {
		return fmt.Errorf("%w (its text is withheld, for it can hold a password)", ErrInvalid)
	}
	return err
}

func unknownScheme(scheme string, known []string) error {
	if path, ok := providers[scheme]; ok {
		return fmt.Errorf("transport: open: the driver for scheme %q is not linked in: add import _ %q", scheme, path)
	}
	var b strings.Builder
	if scheme == "" {
		b.WriteString("the URL has no scheme")
	} else {
		fmt.Fprintf(&b, "unknown scheme %q", scheme)
	}
	fmt.Fprintf(&b, "; linked in: %s", strings.Join(known, ", "))
	if len(known) == 0 {
		b.WriteString("none")
	}
	b.WriteString("; available:")
	for _, s := range slices.Sorted(maps.Keys(providers)) {
		fmt.Fprintf(&b, "\n\t%-10s import _ %q", s, providers[s])
	}
	return fmt.Errorf("%w: %s", ErrUnsupported, b.String())
}
