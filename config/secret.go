package config

import (
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"regexp"
	"strings"
)

// URL is a URL that can hold a password. Printed in any way it does not; string(u) has it.
type URL string

// String returns the URL without its password.
func (u URL) String() string {
	parsed, err := url.Parse(string(u))
	if u == "" {
		return ""
	}
	if err != nil {
		return "…"
	}
	query := parsed.Query()
	for name := range query {
		if sensitive.MatchString(name) {
			query.Set(name, "xxxxx")
			parsed.RawQuery = query.Encode()
		}
	}
	// A password with a "/", "?" or "#" that should have been escaped ends up outside of what Redacted knows.
	if rest := (&url.URL{Opaque: parsed.Opaque, Path: parsed.Path, RawQuery: parsed.RawQuery, Fragment: parsed.Fragment}); strings.Contains(rest.String(), "@") {
		return parsed.Scheme + ":…"
	}
	return parsed.Redacted()
}

var sensitive = regexp.MustCompile(`(?i)pass|secret|token|key`)

// GoString, LogValue and MarshalText are String.
func (u URL) GoString() string { return fmt.Sprintf("config.URL(%q)", u.String()) }

// LogValue is String, for log/slog.
func (u URL) LogValue() slog.Value { return slog.StringValue(u.String()) }

// MarshalText is String, for encoders.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

var urls = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://\S*`)

// withoutURLs is a text that may quote a part of the file, for errors.
func withoutURLs(text string) string { return urls.ReplaceAllString(text, "(a URL)") }

var fileReference = regexp.MustCompile(`\$\{file:([^}]*)\}`)

// expand replaces ${file:…} by the contents of files.
func expand(text string) (string, error) {
	var failed error
	expanded := fileReference.ReplaceAllStringFunc(text, func(reference string) string {
		content, err := os.ReadFile(fileReference.FindStringSubmatch(reference)[1])
		if err != nil {
			failed = err
			return ""
		}
		secret := strings.TrimRight(string(content), " \t\r\n")
		if reference == text {
			return secret
		}
		return escape(secret)
	})
	return expanded, failed
}

// escape encodes all that could mean something in any part of a URL.
func escape(secret string) string {
	var b strings.Builder
	for i := range len(secret) {
		switch c := secret[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.', c == '~':
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
