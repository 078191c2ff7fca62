// Package params reads the query parameters of a transport's URL into a configuration, and names every mistake.
package params

import (
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Reader reads the parameters of one URL. Each method that reads one makes it known; Err reports the rest.
type Reader struct {
	values url.Values
	known  []string
	errs   []error
}

// Read begins reading the query of u.
func Read(u *url.URL) *Reader {
	values, err := url.ParseQuery(u.RawQuery)
	r := &Reader{values: values}
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("query: %w", err))
	}
	return r
}

func read[T any](r *Reader, name, kind string, into *T, parse func(string) (T, error)) {
	r.known = append(r.known, name)
	if !r.values.Has(name) {
		return
	}
	if n := len(r.values[name]); n > 1 {
		r.errs = append(r.errs, fmt.Errorf("parameter %s is given %d times", name, n))
		return
	}
	text := r.values.Get(name)
	v, err := parse(text)
	if err != nil {
		r.errs = append(r.errs, fmt.Errorf("parameter %s=%q must be %s", name, text, kind))
		return
	}
	*into = v
}

// Bool reads true or false.
func (r *Reader) Bool(name string, into *bool) {
	read(r, name, "true or false", into, strconv.ParseBool)
}

// Int reads a whole number of at least least.
func (r *Reader) Int(name string, into *int, least int) {
	read(r, name, fmt.Sprintf("a whole number of at least %d", least), into, func(s string) (int, error) {
		n, err := strconv.Atoi(s)
		if err == nil && n < least {
			err = strconv.ErrRange
		}
		return n, err
	})
}

// Duration reads a positive duration with its unit, such as 10s.
func (r *Reader) Duration(name string, into *time.Duration) {
	read(r, name, `a positive duration with its unit, such as "10s"`, into, func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err == nil && d <= 0 {
			err = strconv.ErrRange
		}
		return d, err
	})
}

// String reads any text.
func (r *Reader) String(name string, into *string) {
	read(r, name, "text", into, func(s string) (string, error) { return s, nil })
}

// OneOf reads one of the allowed words.
func (r *Reader) OneOf(name string, into *string, allowed ...string) {
	read(r, name, "one of "+strings.Join(allowed, ", "), into, func(s string) (string, error) {
		if !slices.Contains(allowed, s) {
			return "", strconv.ErrSyntax
		}
		return s, nil
	})
}

// Err reports all mistakes: values that did not parse, and parameters that nobody read, with the list of the known.
func (r *Reader) Err() error {
	errs := slices.Clone(r.errs)
	list := strings.Join(slices.Sorted(slices.Values(r.known)), ", ")
	if list == "" {
		list = "none"
	}
	for _, name := range slices.Sorted(maps.Keys(r.values)) {
		switch {
		case slices.Contains(r.known, name):
		case strings.Contains(name, "@"): // it follows a "?" in a password that should have been escaped
			errs = append(errs, fmt.Errorf(`unknown parameter (its name is withheld, for it can be a part of a password: write "?" there as "%%3F"); known: %s`, list))
		default:
			errs = append(errs, fmt.Errorf("unknown parameter %q; known: %s", name, list))
		}
	}
	return errors.Join(errs...)
}
