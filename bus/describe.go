package bus

import (
	"maps"
	"reflect"
	"slices"
)

// Description is the wiring of a bus, for diagrams and documents. It holds no handler: changing it changes nothing.
type Description struct {
	// Name is Config.Name, or its default.
	Name string
	// Groups that have handlers, or are configured, by name in their order.
	Groups []GroupDescription
}

// GroupDescription is the wiring of one group.
type GroupDescription struct {
	Name string
	// Config has its defaults filled in.
	Config GroupConfig
	// Events that the group takes, also through an Upcast, in the order of their names and versions.
	Events []EventDescription
}

// EventDescription is one version of an event that a group takes.
type EventDescription struct {
	Name    string
	Version int
	Topic   string
	// Type is what the handler, or the Upcast, takes: a struct or a pointer to one.
	Type reflect.Type
	// ContentType is that of the codec with which the bus publishes the Type; empty if it has none.
	ContentType string
	// Place is the file and line that declared the handler or the Upcast.
	Place string
}

// Describe returns what has been declared so far. It may be called at any time.
func (b *Bus) Describe() Description {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := Description{Name: b.cfg.Name}
	names := map[string]bool{}
	for name := range b.wiring.groups {
		names[name] = true
	}
	for name := range b.cfg.Groups {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		cfg := b.cfg.Groups[name].withDefaults()
		cfg.Middleware = slices.Clone(cfg.Middleware)
		g := GroupDescription{Name: name, Config: cfg}
		if w := b.wiring.groups[name]; w != nil {
			for s, by := range b.wiring.taken(w) {
				e := EventDescription{Name: s.name, Version: s.version, Topic: b.publisher.topic(s.name), Type: by.typ, Place: by.place}
				if c, err := b.publisher.codecFor("", reflect.Zero(by.typ).Interface()); err == nil {
					e.ContentType = c.ContentType()
				}
				g.Events = append(g.Events, e)
			}
			slices.SortFunc(g.Events, func(x, y EventDescription) int {
				return schema{x.Name, x.Version}.compare(schema{y.Name, y.Version})
			})
		}
		d.Groups = append(d.Groups, g)
	}
	return d
}

// source is what takes a schema.
type source struct {
	typ   reflect.Type
	place string
}

// taken returns what g takes, by its own handlers or by the upcasts that lead to one.
func (w *wiring) taken(g *groupWiring) map[schema]source {
	all := map[schema]source{}
	for s, h := range g.handlers {
		all[s] = source{h.typ, h.place}
	}
	for from := range w.upcasts {
		if chain, h := w.lead(g, from); h != nil && len(chain) > 0 {
			all[from] = source{chain[0].typ, chain[0].place}
		}
	}
	return all
}
