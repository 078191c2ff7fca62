package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/transport"
)

// Health is how a bus fares.
type Health struct {
	// State is "not started", "starting", "running", "stopping" or "stopped".
	State string
	// Failed is that of Err: the bus can go on no longer, and its program is to be started again.
	Failed error
	// Transport is why the transport cannot carry messages now; nil if it can, or cannot tell.
	Transport error
	// Groups that have handlers, in the order of their names.
	Groups []GroupHealth
}

// GroupHealth is how a group fares.
type GroupHealth struct {
	Name string
	// Paused is why a middleware, such as middleware.KillSwitch, lets nothing pass in this process; nil if none does.
	Paused error
	// Trouble is why messages can be neither received nor settled now; it is tried again. Nil if they can.
	Trouble error
	// InFlight deliveries are with the group in this process: fetched, and not settled yet.
	InFlight int
	// Topics of the group, with how far it has come on them, in all processes: one for each partition. Empty if the
	// transport is not a transport.StatusReporter, or does not answer.
	Topics []transport.GroupStatus
}

var stateNames = [...]string{
	declaring: "not started", starting: "starting", running: "running", stopping: "stopping", stopped: "stopped",
}

// State returns that of Health. It does no I/O.
func (b *Bus) State() string { return stateNames[b.state.Load()] }

// Ready returns nil if the bus runs and can do its work: it has not failed, its transport answers, and all groups receive
// and settle. What is further behind than it should be, or paused, is ready all the same, for neither a restart nor
// another instance mends it; Health tells of it.
func (b *Bus) Ready(ctx context.Context) error { return b.look(ctx).Ready() }

// Health looks at the bus, its transport and its groups. It asks the transport, within ctx; see transport.StatusReporter
// for the cost.
func (b *Bus) Health(ctx context.Context) Health {
	h := b.look(ctx)
	r, ok := b.cfg.Transport.(transport.StatusReporter)
	if !ok || h.Transport != nil {
		return h
	}
	all, err := r.Status(ctx)
	h.Transport = err
	for i := range h.Groups {
		g := &h.Groups[i]
		for _, s := range all {
			if s.Group == g.Name && b.handles(s.Group, s.Topic) {
				g.Topics = append(g.Topics, s)
			}
		}
	}
	return h
}

// look is Health without the topics.
func (b *Bus) look(ctx context.Context) Health {
	h := Health{State: b.State()}
	if p, ok := b.cfg.Transport.(transport.Pinger); ok {
		h.Transport = p.Ping(ctx)
	}
	b.mu.Lock()
	h.Failed = b.failure
	consumers, groups, paused := b.consumers, b.wiring.sortedGroups(), maps.Clone(b.paused)
	b.mu.Unlock()
	for _, name := range groups {
		g := GroupHealth{Name: name, Paused: paused[name]}
		for _, c := range consumers {
			if c.group == name {
				inFlight, trouble := c.health()
				g.Trouble, g.InFlight = errors.Join(g.Trouble, trouble), g.InFlight+inFlight
			}
		}
		h.Groups = append(h.Groups, g)
	}
	return h
}

// handles reports whether the bus has a consumer of the topic in the group.
func (b *Bus) handles(group, topic string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.ContainsFunc(b.consumers, func(c *consumer) bool { return c.group == group && c.topic == topic })
}

// health returns how many deliveries the consumer has, and why it does not get on.
func (c *consumer) health() (inFlight int, trouble error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, nil
	}
	if c.receiveErrs > 0 && !c.inReceive { // else it may be waiting, all mended
		trouble = fmt.Errorf("topic %q: receive: %w", c.topic, c.receiveErr)
	}
	if c.flushErrs > 0 {
		trouble = errors.Join(trouble, fmt.Errorf("topic %q: settle: %w", c.topic, c.flushErr))
	}
	return c.unsettled, trouble
}

// Ready is that of the Bus.
func (h Health) Ready() error {
	var errs []error
	if h.State != stateNames[running] {
		errs = append(errs, fmt.Errorf("bus: %s", h.State))
	}
	errs = append(errs, h.Failed)
	if h.Transport != nil {
		errs = append(errs, fmt.Errorf("bus: transport: %w", h.Transport))
	}
	for i := range h.Groups {
		if g := &h.Groups[i]; g.Trouble != nil {
			errs = append(errs, fmt.Errorf("bus: group %q: %w", g.Name, g.Trouble))
		}
	}
	return errors.Join(errs...)
}

// Concerns are what keeps messages from being handled although the bus is ready: groups that are paused, and topics on
// which an open transaction in the database holds messages back, or whose state is not known.
func (h Health) Concerns() []error {
	var errs []error
	for i := range h.Groups {
		g := &h.Groups[i]
		if g.Paused != nil {
			errs = append(errs, fmt.Errorf("bus: group %q is paused: %w", g.Name, g.Paused))
		}
		for _, s := range g.Topics {
			if s.Err != nil {
				errs = append(errs, fmt.Errorf("bus: group %q on topic %q: how far it is behind is not known: %w", g.Name, s.Topic, s.Err))
			}
			if s.StalledBy != 0 {
				errs = append(errs, fmt.Errorf("bus: group %q on topic %q: an open transaction in the database, of process %d, holds messages back for %v",
					g.Name, s.Topic, s.StalledBy, s.StalledFor.Round(time.Second)))
			}
		}
	}
	return errs
}

// SetPaused tells the bus that handles the delivery of ctx that its group is paused in this process, and why, or with nil
// that it goes on, for Health. It is for middleware that pauses groups. Outside of a bus it does nothing.
func SetPaused(ctx context.Context, why error) {
	b, _ := ctx.Value(busKey{}).(*Bus)
	d, ok := DeliveryFrom(ctx)
	if b == nil || !ok {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.paused == nil {
		b.paused = map[string]error{}
	}
	if b.paused[d.Group] = why; why == nil {
		delete(b.paused, d.Group)
	}
}
