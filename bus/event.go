package bus

import (
	"context"
	"time"
)

// Event is a value that knows its own wire name.
//
// The name must be the same for every value of the type, the zero value included. It is a contract with all programs
// that receive the event and with all messages that are stored: renaming the Go type does not change it. Up to its last
// dot it names the topic: "orders.placed" travels on "orders".
type Event interface {
	EventName() string
}

// Keyed is an Event whose messages are handled in order among those with the same key.
type Keyed interface {
	Event
	// EventKey returns the key; the empty key asks for no order.
	EventKey() string
}

// Versioned is an Event with a schema version of its own; the version of others is 1.
type Versioned interface {
	Event
	// EventVersion returns the version, at least 1. It must be the same for every value of the type.
	EventVersion() int
}

// Publisher is what a module needs to publish. *Bus is one; bustest.Recorder is one for tests.
type Publisher interface {
	// Publish hands events over and returns nil only when all are as safe as the transport can make them. It may be
	// called concurrently.
	Publish(ctx context.Context, events ...Event) error
}

// After publishes e so that it is delivered d from now, not before. The transport must have the capability Delay.
func After(d time.Duration, e Event) Event { return &wrapped{Event: e, after: d} }

// At publishes e so that it is delivered at t, not before. The transport must have the capability Delay.
func At(t time.Time, e Event) Event { return &wrapped{Event: e, at: t} }

// WithMetadata publishes e with additional headers, both UTF-8 without NUL. Wrapping twice merges; the outer one wins.
func WithMetadata(metadata map[string]string, e Event) Event {
	return &wrapped{Event: e, metadata: metadata}
}

// WithID publishes e under a message ID of the caller's instead of a new one: a publisher that may run twice gives the
// message the same ID twice, so that receivers can tell.
func WithID(id string, e Event) Event { return &wrapped{Event: e, id: id, hasID: true} }

// Unwrap returns the event inside of what After, At, WithMetadata and WithID returned, and any other event as it is.
func Unwrap(e Event) Event {
	for {
		w, ok := e.(*wrapped)
		if !ok {
			return e
		}
		e = w.Event
	}
}

// wrapped is an event with one instruction for Publish.
type wrapped struct {
	Event
	after    time.Duration
	at       time.Time
	metadata map[string]string
	id       string
	hasID    bool
}
