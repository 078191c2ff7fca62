package config

import (
	"errors"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postbus/postbus/transport"
)

// stores are the schemes that store.Open knows. Package store is not imported, for it links the drivers.
var stores = []string{"mysql", "postgres", "postgresql", "sqlite"}

// check reports what is wrong between keys, and beyond their types.
func (l *loader) check(cfg *Config) {
	if cfg.Transport != "" {
		if err := transport.CheckURL(string(cfg.Transport)); err != nil {
			l.mistake("transport", "%w", unprefixed{err})
			cfg.Transport = ""
		}
	}
	if cfg.Store != "" {
		if err := checkStore(cfg.Store); err != nil {
			l.mistake("store", "%w", err)
			cfg.Store = ""
		}
	}
	l.checkRetry("policy", cfg.Policy, Policy{})
	for _, name := range slices.Sorted(maps.Keys(cfg.Groups)) {
		key, g := join("groups", name), cfg.Groups[name]
		if err := transport.CheckName("group", name); err != nil {
			l.mistake(key, "%w", err)
			delete(cfg.Groups, name)
			continue
		}
		l.ordered(join(key, "backoff"), "min", g.Backoff.Min, "max", g.Backoff.Max)
		if g.Retry != (Retry{}) {
			l.checkRetry(key, g.Policy, cfg.Policy)
		}
	}
}

func (l *loader) checkRetry(key string, p, under Policy) {
	r := over(p, under).Retry
	l.ordered(join(key, "retry"), "delay", r.Delay, "max_delay", r.MaxDelay)
}

// ordered reports a pair whose first is longer than its second, if both are there.
func (l *loader) ordered(key, low string, from time.Duration, high string, to time.Duration) {
	if from > 0 && to > 0 && from > to {
		l.mistake(key, "%s %v is longer than %s %v", low, from, high, to)
	}
}

// unprefixed is an error of package transport without the name of that, which the key has said.
type unprefixed struct{ error }

func (e unprefixed) Error() string { return strings.TrimPrefix(e.error.Error(), "transport: ") }

func (e unprefixed) Unwrap() error { return e.error }

func checkStore(rawURL URL) error {
	u, err := url.Parse(string(rawURL))
	switch {
	case err != nil:
		return errors.New("not a URL (its text is withheld, for it can hold a password)")
	case u.Scheme == "":
		return errors.New("the URL has no scheme; known: " + strings.Join(stores, ", "))
	case !slices.Contains(stores, u.Scheme):
		return errors.New("unknown scheme \"" + u.Scheme + "\"; known: " + strings.Join(stores, ", "))
	}
	return nil
}
