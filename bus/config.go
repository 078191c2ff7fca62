package bus

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
)

// Defaults of Config and GroupConfig.
const (
	DefaultWorkers     = 8
	DefaultStopTimeout = 30 * time.Second
	DefaultMinBackoff  = 100 * time.Millisecond
	DefaultMaxBackoff  = time.Minute
)

// Config configures a Bus. New copies it.
type Config struct {
	// Name names the program in logs. Default: "postbus".
	Name string
	// Transport carries the messages. Required; the bus does not close it.
	Transport transport.Transport
	// Middleware runs around every delivery of every group, the first outermost. Default: none. Package middleware has
	// the usual ones, and middleware.Standard builds the usual chain.
	Middleware []Middleware
	// Publishing runs around every hand-over of messages to the transport, the first outermost. Default: none. With any,
	// an event that travels by reference gets its envelope when it is published.
	Publishing []PublishMiddleware
	// Groups configures groups by name. A group that is missing here has the zero GroupConfig.
	Groups map[string]GroupConfig
	// Codecs encode and decode events: publishing uses the first that can encode the event, receiving the one of the
	// message's content type, or, for a message that names none, the first that can encode what the handler takes.
	// Default: codec.JSON alone.
	Codecs []codec.Codec
	// Topic names the topic of an event, and must always give the same answer. Default: TopicOf.
	Topic func(eventName string) string
	// StopTimeout bounds the draining of Run. Default: DefaultStopTimeout.
	StopTimeout time.Duration
	// Logger gets what no caller is told: failed deliveries, a transport in trouble. Default: slog.Default().
	Logger *slog.Logger
}

// GroupConfig configures the consumer of one group.
type GroupConfig struct {
	// Workers is how many handlers of the group run at once. Default: DefaultWorkers. Messages of one key are handled
	// one after the other whatever the number; 1 handles the messages of a topic one after the other, in its order. One
	// that failed is overtaken by those of other keys and by those without.
	Workers int
	// Delivery is the guarantee. Default: AtLeastOnce.
	Delivery DeliveryMode
	// Middleware runs inside Config.Middleware, around the deliveries of this group. Default: none.
	Middleware []Middleware
	// Needs are capabilities without which the group must not run: Start fails if the transport lacks one. Default: none.
	Needs transport.Capabilities
	// Start is where the group begins on a topic that it has not seen before. Default: transport.StartBeginning. Any
	// other needs the capability Replay.
	Start transport.Start
	// Prefetch is how many deliveries the group holds unsettled at most, per topic. Default: transport.DefaultPrefetch,
	// or twice Workers if that is more.
	Prefetch int
	// MinBackoff and MaxBackoff bound the pause before a delivery whose chain failed comes again: random between
	// MinBackoff and twice that, then twice as much with each attempt; its key waits. RetryAfter overrides it. Defaults:
	// DefaultMinBackoff and DefaultMaxBackoff, or the other one if that is beyond.
	MinBackoff, MaxBackoff time.Duration
	// KeepOrder has a message that RetryAfter delays wait in its place, and later messages of its key behind it. Messages
	// that wait count to Prefetch. Default: it leaves the group until then, and they overtake it; see RetryAfter.
	KeepOrder bool
}

// DeliveryMode is a delivery guarantee.
type DeliveryMode uint8

const (
	// AtLeastOnce acknowledges a message after it was handled. After a crash it may come again.
	AtLeastOnce DeliveryMode = iota
	// AtMostOnce acknowledges a message before it is handled. If handling fails, or the process does, it is gone.
	AtMostOnce
)

// check returns what is wrong with c alone, without the handlers and the transport.
func (c *Config) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.StopTimeout < 0 {
		bad("StopTimeout %v must not be negative", c.StopTimeout)
	}
	for i, m := range c.Middleware {
		if m == nil {
			bad("Middleware[%d] is nil", i)
		}
	}
	for i, m := range c.Publishing {
		if m == nil {
			bad("Publishing[%d] is nil", i)
		}
	}
	for i, cd := range c.Codecs {
		switch {
		case cd == nil:
			bad("Codecs[%d] is nil", i)
		case slices.ContainsFunc(c.Codecs[:i], func(o codec.Codec) bool { return o != nil && o.ContentType() == cd.ContentType() }):
			bad("Codecs[%d]: a second codec for %q", i, cd.ContentType())
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Groups)) {
		g := c.Groups[name]
		if err := transport.CheckName("group", name); err != nil {
			errs = append(errs, err)
		}
		if g.Workers < 0 || g.Prefetch < 0 {
			bad("group %q: Workers %d and Prefetch %d must not be negative", name, g.Workers, g.Prefetch)
		}
		if g.MinBackoff < 0 || g.MaxBackoff < 0 || (g.MaxBackoff > 0 && g.MinBackoff > g.MaxBackoff) {
			bad("group %q: backoff from %v to %v must grow from a positive time", name, g.MinBackoff, g.MaxBackoff)
		}
		if g.Delivery > AtMostOnce {
			bad("group %q: unknown Delivery %d", name, g.Delivery)
		}
		for i, m := range g.Middleware {
			if m == nil {
				bad("group %q: Middleware[%d] is nil", name, i)
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	return fmt.Errorf("%w configuration: %w", ErrInvalid, errors.Join(errs...))
}

// withDefaults returns a copy of c with the defaults filled in.
func (c Config) withDefaults() Config {
	if c.Name == "" {
		c.Name = "postbus"
	}
	if c.StopTimeout == 0 {
		c.StopTimeout = DefaultStopTimeout
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Middleware = slices.Clone(c.Middleware)
	c.Groups = maps.Clone(c.Groups)
	for name, g := range c.Groups {
		g.Middleware = slices.Clone(g.Middleware)
		c.Groups[name] = g
	}
	return c
}

func (g GroupConfig) withDefaults() GroupConfig {
	if g.Workers == 0 {
		g.Workers = DefaultWorkers
	}
	if g.Prefetch == 0 {
		g.Prefetch = max(transport.DefaultPrefetch, 2*g.Workers)
	}
	switch {
	case g.MinBackoff == 0 && g.MaxBackoff == 0:
		g.MinBackoff, g.MaxBackoff = DefaultMinBackoff, DefaultMaxBackoff
	case g.MinBackoff == 0:
		g.MinBackoff = min(DefaultMinBackoff, g.MaxBackoff)
	case g.MaxBackoff == 0:
		g.MaxBackoff = max(DefaultMaxBackoff, g.MinBackoff)
	}
	return g
}
