package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

var _ transport.Pinger = (*Transport)(nil)

// State is the state of a connection.
type State uint8

const (
	// Down: there is no connection; the transport tries to get one.
	Down State = iota
	// Up: the connection is open.
	Up
	// Unused: no subscription has needed the connection yet.
	Unused
)

// String returns "down", "up" or "unused".
func (s State) String() string {
	switch s {
	case Down:
		return "down"
	case Up:
		return "up"
	}
	return "unused"
}

// LinkStatus is the state of one of the two connections.
type LinkStatus struct {
	State State
	// Since is when State was entered.
	Since time.Time
	// Err is why the connection is down, as far as is known; nil if it is up.
	Err error
	// Blocked is the broker's reason while it holds publishers up, such as "low on memory"; else empty.
	Blocked string
	// Connects counts how often the connection came up.
	Connects int
}

// Status is what an operator wants to know; see [Transport.Status].
type Status struct {
	// Publish and Consume are the connections for either direction.
	Publish, Consume LinkStatus
	// Unroutable counts messages that reached no queue.
	Unroutable uint64
}

// Status returns the state of the transport. It does no I/O and may be called concurrently.
func (t *Transport) Status() Status {
	s := Status{
		Publish:    t.publishing.snapshot(),
		Consume:    LinkStatus{State: Unused, Since: t.opened},
		Unroutable: t.unroutable.Load(),
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.consuming != nil {
		s.Consume = t.consuming.snapshot()
	}
	return s
}

// Ping implements transport.Pinger: it returns why one of the two connections is down, or why the broker holds publishers
// up. It does no I/O, for heartbeats keep the state up to date.
func (t *Transport) Ping(context.Context) error {
	s := t.Status()
	var errs []error
	for _, l := range []struct {
		role   string
		status LinkStatus
	}{{"publishing", s.Publish}, {"consuming", s.Consume}} {
		switch {
		case l.status.State == Down:
			errs = append(errs, fmt.Errorf("rabbitmq: the connection for %s is down for %v: %w",
				l.role, time.Since(l.status.Since).Round(time.Second), l.status.Err))
		case l.status.Blocked != "":
			errs = append(errs, fmt.Errorf("rabbitmq: the broker holds publishers up: %s", l.status.Blocked))
		}
	}
	return errors.Join(errs...)
}
