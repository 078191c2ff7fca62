// Package dedup passes over messages that a group has handled before: those that came twice from their publisher, and
// those whose acknowledgement was lost.
//
//	d := dedup.New(dedup.Config{Store: db})
//	err := d.Prepare(ctx) // once, at the start: makes the table
//	chain := middleware.Standard(middleware.StandardConfig{Dedup: d.Middleware})
//
// A key is recorded when the handler has succeeded, never before. So a process that dies between the two handles the
// message again. A handler whose work is rows and events of one database needs no such gap: outbox.Handle commits the
// note, the rows and the events together. This package is for all others, such as a handler that calls a service.
package dedup

import (
	"context"
	"log/slog"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/store"
)

// Defaults of Config.
const (
	DefaultRetention = 7 * 24 * time.Hour
	DefaultMax       = 100_000
	DefaultLease     = 15 * time.Second
)

// Config configures New. Its zero value is ready to use, in memory.
type Config struct {
	// Store keeps the keys, for all instances of the program and across restarts. New does not close it. Default: none,
	// and what a process knows in its memory is its own.
	Store *store.DB
	// Key names what is to be handled once by a group, within the name of the event; an empty one stands for the id of
	// the message. It is called concurrently, and again for a message that comes again, with the same answer. ByEvent
	// makes one of a function of the event. Default: the id.
	Key func(d *bus.Delivery) string
	// Retention is how long a key is known, from when it was recorded. A message that comes again later is handled
	// again. Default: DefaultRetention. Negative: for ever, in the Store, and until Max in memory.
	Retention time.Duration
	// Max is how many keys of a group are known in memory; the oldest is forgotten for one more. Default: DefaultMax. In
	// the Store it is Retention alone that bounds.
	Max int
	// Lease is how long a key in the Store stays taken by a process that died while handling it. While the handler runs it
	// is renewed. Default: DefaultLease.
	Lease time.Duration
	// Logger gets warnings, and at slog.LevelDebug a line for each message that was passed over. Default: slog.Default() at
	// the time of the call of New.
	Logger *slog.Logger
}

// Dedup knows which messages were handled. Its methods may be called concurrently.
type Dedup struct {
	cfg    Config
	memory *memory // one of the two is nil
	table  *table
}

// New makes a Dedup. It does no I/O.
func New(cfg Config) *Dedup {
	if cfg.Retention == 0 {
		cfg.Retention = DefaultRetention
	}
	if cfg.Max <= 0 {
		cfg.Max = DefaultMax
	}
	if cfg.Lease <= 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	d := &Dedup{cfg: cfg}
	if cfg.Store == nil {
		d.memory = &memory{retention: cfg.Retention, max: cfg.Max}
	} else {
		d.table = newTable(&d.cfg)
	}
	return d
}

// Prepare makes the table in the Store, unless it is there. The first delivery does it otherwise. It may be called by many
// instances at once; in memory there is nothing to do.
func (d *Dedup) Prepare(ctx context.Context) error {
	if d.table == nil {
		return nil
	}
	return d.table.prepare(ctx)
}

// Middleware is the bus.Middleware. It belongs outside of what retries in process, where middleware.Standard has it.
//
// Of two deliveries of one key at once, the second waits in its worker. When the first has succeeded, the second is passed
// over: it returns nil without calling the handler. Otherwise it is handled. While the Store cannot be asked, deliveries
// wait too, for they cannot be told apart: an outage uses up no attempts. When ctx ends or the bus begins to stop, what
// waits returns with an error that does not count as an attempt, and matches bus.ErrStopped in a bus that stops.
//
// If the key cannot be recorded after the handler has succeeded, that is logged, and the delivery has succeeded.
func (d *Dedup) Middleware(next bus.Handler) bus.Handler {
	return func(ctx context.Context, dl *bus.Delivery) error {
		k := d.key(dl)
		if d.table != nil {
			return d.table.handle(ctx, dl, k, next)
		}
		return d.memory.handle(ctx, dl, k, next, d.cfg.Logger)
	}
}

// key is what is to be handled once: the id of a message, if event is empty, or text within the name of the event.
type key struct{ event, text string }

// String is different for different keys: no name of an event holds a control character.
func (k key) String() string { return k.event + "\n" + k.text }

func (d *Dedup) key(dl *bus.Delivery) key {
	if d.cfg.Key != nil {
		if text := d.cfg.Key(dl); text != "" {
			return key{dl.Message().Name, text}
		}
	}
	return key{"", dl.Message().ID}
}

// ByEvent makes a Config.Key of a function of the event. Messages of other events and versions, and those that cannot be
// decoded, keep their ids. The payload is decoded for it once more.
func ByEvent[E bus.Event](key func(event E) string) func(d *bus.Delivery) string {
	return func(d *bus.Delivery) string {
		e, err := bus.Decode[E](d)
		if err != nil {
			return ""
		}
		return key(e)
	}
}

// passedOver logs a message that was handled before.
func passedOver(ctx context.Context, log *slog.Logger, d *bus.Delivery) {
	m := d.Message()
	log.DebugContext(ctx, "dedup: handled before, and passed over", "event", m.Name, "id", m.ID, "group", d.Group)
}
