// Package describe turns the wiring of a bus into documents: a Mermaid diagram of modules, events and groups, and an
// AsyncAPI document of topics and messages.
//
//	fmt.Print(describe.Mermaid(describe.Program{Description: b.Describe()}))
package describe

import (
	"maps"
	"slices"

	"github.com/postbus/postbus/bus"
)

// Program is what documents show.
type Program struct {
	bus.Description
	// Version is that of the program, for AsyncAPI. Default: "0".
	Version string
	// Publishes are the events that modules publish, by the name of the module, for a bus knows only who handles them.
	// Default: none are shown.
	Publishes map[string][]bus.Event
	// Topic is that of the bus. Default: bus.TopicOf.
	Topic func(eventName string) string
}

func (p Program) topic(event string) string {
	for _, g := range p.Groups {
		for _, e := range g.Events {
			if e.Name == event {
				return e.Topic
			}
		}
	}
	if p.Topic != nil {
		return p.Topic(event)
	}
	return bus.TopicOf(event)
}

// publishers are the modules that publish, by name in their order.
func (p Program) publishers() []string { return slices.Sorted(maps.Keys(p.Publishes)) }
