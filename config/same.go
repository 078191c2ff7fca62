package config

import (
	"net/url"
	"path"
)

// OneDatabase reports whether Transport and Store name the same database, judging by their text: scheme, host, and path.
// Events then go straight from a transaction to their topics.
func (c *Config) OneDatabase() bool {
	t, err := url.Parse(string(c.Transport))
	if err != nil {
		return false
	}
	s, err := url.Parse(string(c.Store))
	if err != nil || s.Scheme == "" {
		return false
	}
	scheme := func(u *url.URL) string {
		if u.Scheme == "postgresql" {
			return "postgres"
		}
		return u.Scheme
	}
	// What has parameters for its host or database is not looked into.
	for _, u := range []*url.URL{t, s} {
		if q := u.Query(); q.Has("host") || q.Has("port") || q.Has("dbname") || q.Has("service") || q.Has("socket") || q.Has("options") {
			return false
		}
	}
	if scheme(s) == "sqlite" && s.Opaque == ":memory:" {
		return false
	}
	place := func(u *url.URL) string {
		if u.Opaque != "" {
			return path.Clean(u.Opaque)
		}
		return path.Clean(u.Path)
	}
	return scheme(t) == scheme(s) && t.Host == s.Host && place(t) == place(s)
}
