package bus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/postbus/postbus/transport"
)

// wiring is what a program has declared before Start.
type wiring struct {
	groups   map[string]*groupWiring
	upcasts  map[schema]upcast
	mistakes []error
}

// schema is one version of one event.
type schema struct {
	name    string
	version int
}

func (s schema) String() string { return fmt.Sprintf("%q version %d", s.name, s.version) }

func (s schema) compare(other schema) int {
	return cmp.Or(strings.Compare(s.name, other.name), s.version-other.version)
}

type groupWiring struct {
	handlers map[schema]*handler
}

// handler is a typed function without its type.
type handler struct {
	schema
	place string
	typ   reflect.Type
	// decode makes the event out of a delivery, handle takes what decode or an upcast made, and direct is both in one.
	decode func(*Delivery) (any, error)
	handle eventFunc
	direct Handler
}

// upcast makes an event of the next known version out of one of an older.
type upcast struct {
	to     schema
	place  string
	typ    reflect.Type
	decode func(*Delivery) (any, error)
	apply  func(any) (any, error)
}

func (w *wiring) mistake(place, format string, args ...any) {
	w.mistakes = append(w.mistakes, fmt.Errorf("%s: %w", place, fmt.Errorf(format, args...)))
}

// addGroup makes a group known, even if what follows is wrong with its handler.
func (w *wiring) addGroup(place, name string) {
	if err := transport.CheckName("group", name); err != nil {
		w.mistake(place, "%w", err)
	}
	if w.groups[name] == nil {
		w.groups[name] = &groupWiring{handlers: map[schema]*handler{}}
	}
}

func (w *wiring) addHandler(group string, h *handler) {
	if err := checkSchema(h.schema); err != nil {
		w.mistake(h.place, "group %q: %w", group, err)
		return
	}
	g := w.groups[group]
	if other := g.handlers[h.schema]; other != nil {
		w.mistake(h.place, "group %q has a handler for %s already, from %s", group, h.schema, other.place)
		return
	}
	g.handlers[h.schema] = h
}

func (w *wiring) addUpcast(from schema, u upcast) {
	switch err := errors.Join(checkSchema(from), checkSchema(u.to)); {
	case err != nil:
		w.mistake(u.place, "upcast: %w", err)
	case from.name != u.to.name:
		w.mistake(u.place, "upcast from %q to %q: the names must be equal", from.name, u.to.name)
	case from.version >= u.to.version:
		w.mistake(u.place, "upcast of %q from version %d to %d: the version must grow", from.name, from.version, u.to.version)
	case w.upcasts[from].place != "":
		w.mistake(u.place, "there is an upcast from %s already, from %s", from, w.upcasts[from].place)
	default:
		w.upcasts[from] = u
	}
}

func checkSchema(s schema) error {
	if err := checkEventName(s.name); err != nil {
		return err
	}
	if s.version < 1 {
		return fmt.Errorf("%w: event %q: version %d must be at least 1", ErrInvalid, s.name, s.version)
	}
	return nil
}

// routes returns how a group handles each version of each event: by its own handler, or else by the upcasts that lead
// to one.
func (w *wiring) routes(g *groupWiring) map[string]versions {
	byName := map[string]versions{}
	add := func(s schema, h Handler) {
		v := byName[s.name]
		at, _ := slices.BinarySearchFunc(v, s.version, func(v version, n int) int { return v.number - n })
		byName[s.name] = slices.Insert(v, at, version{s.version, h})
	}
	for s, h := range g.handlers {
		add(s, h.direct)
	}
	for from := range w.upcasts {
		if chain, h := w.lead(g, from); h != nil && len(chain) > 0 {
			add(from, upcasting(chain, h))
		}
	}
	return byName
}

// lead returns how a schema gets to a handler of g: by a chain of upcasts, which is empty if g takes it as it is. The
// handler is nil if there is no way.
func (w *wiring) lead(g *groupWiring, from schema) (chain []upcast, h *handler) {
	for at := from; ; {
		if h := g.handlers[at]; h != nil {
			return chain, h
		}
		u, ok := w.upcasts[at]
		if !ok {
			return nil, nil
		}
		chain, at = append(chain, u), u.to
	}
}

func upcasting(chain []upcast, h *handler) Handler {
	return func(ctx context.Context, d *Delivery) error {
		e, err := chain[0].decode(d)
		if err != nil {
			return err
		}
		for _, u := range chain {
			if e, err = u.apply(e); err != nil {
				return Permanent(fmt.Errorf("bus: upcast %q to version %d: %w", u.to.name, u.to.version, err))
			}
		}
		return h.handle(ctx, e)
	}
}

// versions holds the handler of each version of an event, in the order of their numbers. It is searched from end to end,
// for there are one or two as a rule.
type versions []version

type version struct {
	number int
	handle Handler
}

// find returns the handler of version n, or nil.
func (v versions) find(n int) Handler {
	for i := range v {
		if v[i].number == n {
			return v[i].handle
		}
	}
	return nil
}

func (v versions) known() string {
	var list []string
	for i := range v {
		list = append(list, strconv.Itoa(v[i].number))
	}
	return strings.Join(list, ", ")
}

// sortedGroups returns the groups that have handlers, in the order of their names.
func (w *wiring) sortedGroups() []string { return slices.Sorted(maps.Keys(w.groups)) }
