// Package drive lets sagatest move an Orchestrator by hand, without its poller and without a bus that runs.
package drive

import (
	"context"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/transport"
)

// Driver moves one Orchestrator, which must not be started. It is used by one goroutine.
type Driver interface {
	// Groups returns the groups of the sagas that take an event.
	Groups(e bus.Event) []string
	// Handle handles an event as the delivery of m to a group.
	Handle(ctx context.Context, group string, m *transport.Message, attempt int, e bus.Event) error
	// Due works on the instances that are due, and reports whether there were any.
	Due(ctx context.Context) (bool, error)
	// Next returns when one will be due, in ms since 1970, or 0 for never.
	Next(ctx context.Context) (int64, error)
}

// Options are what a Driver changes of its Orchestrator.
type Options struct {
	// Clock replaces that of the database.
	Clock func() int64
	// Crash is called at each point between which a process can end. Its panic with a Crash is not recovered.
	Crash func(point string)
}

// Crash is what ends a process, in a test.
type Crash struct{ Point string }

// PostbusCrash marks it.
func (Crash) PostbusCrash() {}

// Of makes a Driver of a *saga.Orchestrator.
var Of func(orchestrator any, o Options) Driver

// Prepare makes the tables in the database of a Box.
var Prepare func(ctx context.Context, box *outbox.Box) error

// Replay runs entries, a []saga.Entry, through a definition, a saga.Saga.
var Replay func(definition, entries any) error
