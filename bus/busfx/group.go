package busfx

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/declare"
	"github.com/postbus/postbus/transport"
)

type groupDecl struct {
	name  string
	place string
	cfg   bus.GroupConfig
}

type groupOut struct {
	fx.Out
	Group groupDecl `group:"postbus.groups"`
}

// Group declares how a module wants a group of its own to run: what it needs, above all. What bus.Config.Groups says
// about the group overrides it field by field, needs are added, and its Middleware stands outside. Two declarations of
// one group must be equal, and then without Middleware.
func Group(name string, cfg bus.GroupConfig) fx.Option {
	return supply(groupOut{Group: groupDecl{name, declare.Place(), cfg}})
}

// mergeGroups lays configured over declared.
func mergeGroups(configured map[string]bus.GroupConfig, declared []groupDecl) (map[string]bus.GroupConfig, error) {
	declared = slices.Clone(declared)
	slices.SortFunc(declared, func(a, b groupDecl) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(a.place, b.place))
	})
	var errs []error
	first := map[string]groupDecl{}
	for _, d := range declared {
		other, taken := first[d.name]
		if !taken {
			first[d.name] = d
			continue
		}
		if !reflect.DeepEqual(other.cfg, d.cfg) { // functions are never equal
			errs = append(errs, fmt.Errorf("%s: group %q is declared differently at %s", d.place, d.name, other.place))
		}
	}
	merged := maps.Clone(configured)
	if merged == nil {
		merged = map[string]bus.GroupConfig{}
	}
	for name, d := range first {
		merged[name] = overlay(d.cfg, merged[name])
	}
	return merged, errors.Join(errs...)
}

// overlay returns base with the fields of over that are set.
func overlay(base, over bus.GroupConfig) bus.GroupConfig {
	merged := base
	to, from := reflect.ValueOf(&merged).Elem(), reflect.ValueOf(over)
	for i := range to.NumField() {
		if !from.Field(i).IsZero() {
			to.Field(i).Set(from.Field(i))
		}
	}
	merged.Middleware = slices.Concat(over.Middleware, base.Middleware)
	merged.Needs = both(base.Needs, over.Needs)
	return merged
}

func both(a, b transport.Capabilities) transport.Capabilities {
	return transport.Capabilities{
		Durable:       a.Durable || b.Durable,
		Order:         max(a.Order, b.Order),
		Delay:         a.Delay || b.Delay,
		Target:        a.Target || b.Target,
		Replay:        a.Replay || b.Replay,
		Transactional: a.Transactional || b.Transactional,
		Values:        a.Values || b.Values,
		MaxPayload:    max(a.MaxPayload, b.MaxPayload),
	}
}
