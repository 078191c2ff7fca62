package describe

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/postbus/postbus/bus"
)

type object = map[string]any

// AsyncAPI returns an AsyncAPI 3.0.0 document in JSON: a channel for each topic, a message for each version of each
// event, an operation "receive" for each group and topic and "send" for each module and topic. The payloads of events
// that travel as JSON have a schema, made of their Go types as encoding/json sees them; one that encodes itself may be
// anything.
func AsyncAPI(p Program) ([]byte, error) {
	d := document{p, object{}, object{}, object{}}
	for _, module := range p.publishers() {
		for _, e := range p.Publishes[module] {
			e = bus.Unwrap(e)
			version := 1
			if v, ok := e.(bus.Versioned); ok {
				version = v.EventVersion()
			}
			d.operation("send", module, bus.EventDescription{
				Name: e.EventName(), Version: version, Topic: p.topic(e.EventName()), Type: reflect.TypeOf(e), ContentType: d.contentType(e),
			})
		}
	}
	for _, g := range p.Groups {
		for _, e := range g.Events {
			d.operation("receive", g.Name, e)
		}
	}
	return json.MarshalIndent(object{
		"asyncapi":   "3.0.0",
		"info":       object{"title": p.Name, "version": cmp.Or(p.Version, "0")},
		"channels":   d.channels,
		"operations": d.operations,
		"components": object{"messages": d.messages},
	}, "", "  ")
}

type document struct {
	Program
	channels, operations, messages object
}

// contentType is that with which the event is known to be received; JSON if nobody does.
func (d document) contentType(e bus.Event) string {
	for _, g := range d.Groups {
		for _, known := range g.Events {
			if known.Name == e.EventName() && known.ContentType != "" {
				return known.ContentType
			}
		}
	}
	return "application/json"
}

// id makes a key that references can hold as it is.
func id(parts ...string) string {
	key := ""
	for i, part := range parts {
		if i > 0 {
			key += "."
		}
		key += escape(part, '_')
	}
	return key
}

func (d document) operation(action, by string, e bus.EventDescription) {
	message, channel := id(e.Name, fmt.Sprint("v", e.Version)), id(e.Topic)
	d.message(message, e)
	if d.channels[channel] == nil {
		d.channels[channel] = object{"address": e.Topic, "messages": object{}}
	}
	d.channels[channel].(object)["messages"].(object)[message] = object{"$ref": "#/components/messages/" + message}
	key := id(by, action, e.Topic)
	if d.operations[key] == nil {
		d.operations[key] = object{
			"action": action, "channel": object{"$ref": "#/channels/" + channel}, "title": by, "messages": []object{},
			"x-" + map[string]string{"send": "module", "receive": "group"}[action]: by,
		}
	}
	o := d.operations[key].(object)
	o["messages"] = append(o["messages"].([]object), object{"$ref": "#/channels/" + channel + "/messages/" + message})
}

func (d document) message(key string, e bus.EventDescription) {
	if d.messages[key] != nil {
		return
	}
	m := object{"name": e.Name, "title": e.Name, "x-version": e.Version}
	if e.ContentType != "" {
		m["contentType"] = e.ContentType
	}
	if e.ContentType == "application/json" && e.Type != nil {
		m["payload"] = schema(e.Type, nil)
	}
	d.messages[key] = m
}
