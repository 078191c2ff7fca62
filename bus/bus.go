package bus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/postbus/postbus/internal/declare"
	"github.com/postbus/postbus/transport"
)

func init() {
	declare.At = func(b any, place string, f func()) { b.(*Bus).places.Run(place, f) }
}

// Bus publishes events, and runs the handlers. Make it with New, declare handlers with Handle, then Run it, or Start
// and Stop it. Its methods may be called concurrently.
type Bus struct {
	cfg   Config
	place string // where New was called

	places    declare.Places
	publisher *publisher

	state atomic.Int32 // a state, changed under mu

	mu          sync.Mutex
	wiring      wiring        // not changed from Start on
	started     chan struct{} // closed when Start is through
	cancelStart context.CancelCauseFunc
	consumers   []*consumer
	stopped     chan struct{} // closed when Stop is through
	stopErr     error         // what it returned
	late        []error       // mistakes made after Start
	failure     error         // why failed is closed
	failed      chan struct{}
	paused      map[string]error // groups that middleware has paused, and why
}

type state = int32

const (
	declaring state = iota
	starting
	running
	stopping
	stopped
)

// New makes a bus; it does no I/O. The error names every mistake of cfg that can be told without the handlers and the
// transport; Start reports all others, among them that there is no transport.
func New(cfg Config) (*Bus, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	b := &Bus{
		cfg:     cfg.withDefaults(),
		place:   declare.Place(),
		wiring:  wiring{groups: map[string]*groupWiring{}, upcasts: map[schema]upcast{}},
		stopped: make(chan struct{}),
		failed:  make(chan struct{}),
	}
	publishing := PublisherConfig{Codecs: cfg.Codecs, Topic: cfg.Topic, Publishing: cfg.Publishing}
	if cfg.Transport != nil {
		publishing.Capabilities, publishing.Publish = cfg.Transport.Capabilities(), cfg.Transport.Publish
	}
	var err error
	if b.publisher, err = newPublisher(publishing); err != nil {
		return nil, fmt.Errorf("%s: %w", b.place, err)
	}
	if publishing.Capabilities.Values && len(cfg.Publishing) == 0 {
		b.publisher.lazy, _ = cfg.Transport.(transport.LazyPublisher)
	}
	return b, nil
}

// declare changes the wiring, or records that it is too late for that.
func (b *Bus) declare(at string, change func(*wiring)) {
	b.mu.Lock()
	var err error
	if b.state.Load() == declaring {
		change(&b.wiring)
	} else {
		err = fmt.Errorf("%s: %w: declared after Start, and not in effect", at, ErrInvalid)
		b.late = append(b.late, err)
	}
	b.mu.Unlock()
	if err != nil { // without the lock, for a logger is the program's code
		b.cfg.Logger.Error("bus: wiring mistake", "bus", b.cfg.Name, "error", err)
	}
}

// publishable returns why Publish cannot work now.
func (b *Bus) publishable() error {
	switch b.state.Load() {
	case running, stopping:
		return nil
	case stopped:
		return fmt.Errorf("bus: publish: %w", ErrStopped)
	}
	return fmt.Errorf("bus: publish: %w", ErrNotStarted)
}

// Check returns every mistake of the configuration and the wiring so far that Start would refuse, each with the place in
// the code where it was made; it does no I/O. What middleware says when it is built is for Start alone.
func (b *Bus) Check() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verify()
}

// verify returns every mistake of the wiring, each with the place in the code where it was made.
func (b *Bus) verify() error {
	w := &b.wiring
	errs := append([]error(nil), w.mistakes...)
	bad := func(place, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %w", place, fmt.Errorf(format, args...)))
	}
	if b.cfg.Transport == nil {
		bad(b.place, "%w: Config.Transport is missing", ErrInvalid)
	}
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Groups)) {
		cfg := b.cfg.Groups[name]
		if w.groups[name] == nil {
			bad(b.place, "%w: Config.Groups has group %q, which handles nothing; groups with handlers: %q", ErrInvalid, name, w.sortedGroups())
			continue
		}
		if b.cfg.Transport == nil {
			continue
		}
		for _, missing := range b.publisher.caps.Missing(cfg.Needs) {
			bad(b.place, "group %q needs what the transport lacks: %s", name, missing)
		}
		if cfg.Start != transport.StartBeginning() && !b.publisher.caps.Replay {
			bad(b.place, "group %q chooses where to start, for which the transport lacks replay", name)
		}
	}
	for _, name := range w.sortedGroups() {
		handlers := w.groups[name].handlers
		for _, s := range slices.SortedFunc(maps.Keys(handlers), schema.compare) {
			if err := transport.CheckName("topic", b.publisher.topic(s.name)); err != nil {
				bad(handlers[s].place, "Config.Topic of event %q: %w", s.name, err)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return invalid{fmt.Errorf("bus %q is wired wrongly:\n%w", b.cfg.Name, errors.Join(errs...))}
}

// Stats returns what has happened since Start, by group.
func (b *Bus) Stats() map[string]GroupStats {
	b.mu.Lock()
	consumers := b.consumers
	b.mu.Unlock()
	stats := map[string]GroupStats{}
	for _, c := range consumers {
		s := stats[c.group]
		c.mu.Lock()
		s.Handled += c.handled
		s.SetAside += c.setAside
		s.Failed += c.failed
		s.Ignored += c.ignored.Load()
		if !c.closed {
			s.InFlight += c.unsettled
		}
		c.mu.Unlock()
		stats[c.group] = s
	}
	return stats
}

// GroupStats counts deliveries of a group.
type GroupStats struct {
	// Handled deliveries passed the chain without an error; those that were ignored are among them.
	Handled uint64
	// SetAside deliveries came out of the chain with a SetAside error, as those do that went into quarantine.
	SetAside uint64
	// Failed deliveries came out of the chain with any other error.
	Failed uint64
	// Ignored deliveries were of events that the group has no handler for.
	Ignored uint64
	// InFlight deliveries are with the group now: fetched, and not settled yet.
	InFlight int
}
