package saga

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
)

// Defaults of Config.
const (
	DefaultWorkers            = 8
	DefaultPollInterval       = time.Second
	DefaultAttemptTimeout     = time.Minute
	DefaultRetention          = 7 * 24 * time.Hour
	DefaultTombstoneRetention = 30 * 24 * time.Hour
)

// Config configures an Orchestrator. New copies it.
type Config struct {
	// Sagas are the definitions, several versions of one name among them. Required.
	Sagas []Saga
	// Workers is how many instances that are due the poller works on at once. Those that a message moves are worked on by
	// the workers of the bus, whose group is "saga." and the name of the saga. Default: DefaultWorkers.
	Workers int
	// PollInterval is how often the poller looks for what other processes have left due. What this process knows to be
	// due later is looked at in time. Default: DefaultPollInterval.
	PollInterval time.Duration
	// AttemptTimeout bounds each call of Do and Undo: then its context ends, and one that does not return either is left
	// behind without its transaction. Default: DefaultAttemptTimeout.
	AttemptTimeout time.Duration
	// Retention is how long an instance that has ended is kept, with its journal. Default: DefaultRetention. Negative: for
	// ever.
	Retention time.Duration
	// TombstoneRetention is how long after that its key still keeps a straggler from starting it again. Default:
	// DefaultTombstoneRetention. Negative: for ever.
	TombstoneRetention time.Duration
	// Hooks see what is done. Default: none. Package sagatelemetry has one.
	Hooks []Hook
	// Logger gets what no caller is told: stuck instances, unknown versions, a database in trouble. Default:
	// slog.Default().
	Logger *slog.Logger
}

// Orchestrator runs sagas. Its methods may be called concurrently.
type Orchestrator struct {
	desk
	box    *outbox.Box
	cfg    Config
	defs   map[string]map[int]*definition
	newest map[string]*definition

	offset atomic.Int64 // ms that the clock of the database is ahead of ours
	// Of sagatest, see drive.go:
	crash func(point string)
	clock func() int64 // ms since 1970; nil for that of the database
	grace time.Duration

	started, reminded atomic.Bool

	mu      sync.Mutex
	run     context.Context // of the poller's instances
	cancel  context.CancelFunc
	polling context.CancelFunc
	done    chan struct{}
	nudge   chan struct{}
	wakes   []int64 // when the poller looks, in order
}

// groupPrefix precedes the name of a saga in that of its group.
const groupPrefix = "saga."

// New makes an Orchestrator in the database of box, and declares the handlers of its sagas on b; it does no I/O. The
// error names every mistake of the definitions. Without Start, what a message leads to is done and nothing else, neither
// retries nor timeouts; the first message then makes a warning.
func New(b *bus.Bus, box *outbox.Box, cfg Config) (*Orchestrator, error) {
	o := &Orchestrator{
		box: box, cfg: cfg.withDefaults(), defs: map[string]map[int]*definition{}, newest: map[string]*definition{},
		nudge: make(chan struct{}, 1), grace: grace,
	}
	var errs []error
	if b == nil || box == nil || box.DB() == nil {
		errs = append(errs, fmt.Errorf("saga: %w: New needs a bus, and a Box with a database", bus.ErrInvalid))
	} else {
		o.desk = desk{box.DB(), rows{box.DB().Dialect()}}
	}
	if len(cfg.Sagas) == 0 {
		errs = append(errs, fmt.Errorf("saga: %w: Config.Sagas is empty", bus.ErrInvalid))
	}
	if cfg.Workers < 0 || cfg.PollInterval < 0 || cfg.AttemptTimeout < 0 {
		errs = append(errs, fmt.Errorf("saga: %w: Workers %d, PollInterval %v and AttemptTimeout %v must not be negative", bus.ErrInvalid,
			cfg.Workers, cfg.PollInterval, cfg.AttemptTimeout))
	}
	for i, s := range cfg.Sagas {
		if s == nil {
			errs = append(errs, fmt.Errorf("saga: %w: Config.Sagas[%d] is nil", bus.ErrInvalid, i))
			continue
		}
		errs = append(errs, o.add(s.define()))
	}
	for _, versions := range o.defs {
		for _, d := range versions {
			for _, l := range d.leaves {
				if l.child != nil && o.definition(l.child.def.name, l.child.def.version) == nil {
					errs = append(errs, fmt.Errorf("saga %q: %w: step %q: its child %q version %d is not in Config.Sagas", d.name,
						bus.ErrInvalid, l.name, l.child.def.name, l.child.def.version))
				}
			}
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	o.wire(b)
	return o, nil
}

func (cfg Config) withDefaults() Config {
	if cfg.Workers == 0 {
		cfg.Workers = DefaultWorkers
	}
	if cfg.PollInterval == 0 {
		cfg.PollInterval = DefaultPollInterval
	}
	if cfg.AttemptTimeout == 0 {
		cfg.AttemptTimeout = DefaultAttemptTimeout
	}
	if cfg.Retention == 0 {
		cfg.Retention = DefaultRetention
	}
	if cfg.TombstoneRetention == 0 {
		cfg.TombstoneRetention = DefaultTombstoneRetention
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	cfg.Hooks = slices.Clone(cfg.Hooks)
	return cfg
}

func (o *Orchestrator) add(d *definition) error {
	if err := d.check(); err != nil {
		return err
	}
	versions := o.defs[d.name]
	if versions == nil {
		versions = map[int]*definition{}
		o.defs[d.name] = versions
	}
	if versions[d.version] != nil {
		return fmt.Errorf("saga %q: %w: version %d is there twice", d.name, bus.ErrInvalid, d.version)
	}
	versions[d.version] = d
	if n := o.newest[d.name]; n == nil || n.version < d.version {
		o.newest[d.name] = d
	}
	return nil
}

// definition returns the definition of a version, or nil.
func (o *Orchestrator) definition(saga string, version int) *definition { return o.defs[saga][version] }

// Prepare makes the tables, unless they are there. Start calls it.
func (o *Orchestrator) Prepare(ctx context.Context) error {
	if err := prepare(ctx, o.box); err != nil {
		return err
	}
	return o.readClock(ctx)
}

func prepare(ctx context.Context, box *outbox.Box) error {
	if err := box.Prepare(ctx); err != nil {
		return err
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return err
	}
	if err := box.DB().Migrate(ctx, store.Schema{Name: "saga", Files: files}); err != nil {
		return fmt.Errorf("saga: prepare: %w", err)
	}
	return nil
}

const (
	// clockReadings is how often the clock of the database is read until it answers at once.
	clockReadings = 5
	// atOnce is how long that may take, for half of it is how wrong the reading can be.
	atOnce = 10 * time.Millisecond
)

// readClock asks the database for its time.
func (o *Orchestrator) readClock(ctx context.Context) error {
	best := time.Duration(math.MaxInt64)
	for i := 0; i < clockReadings && best > atOnce; i++ {
		var theirs int64
		before := time.Now()
		if err := o.db.SQL().QueryRowContext(ctx, o.rows.clockQuery()).Scan(&theirs); err != nil {
			return fmt.Errorf("saga: the clock of the database: %w", err)
		}
		if took := time.Since(before); took < best {
			best = took
			o.offset.Store(theirs - before.Add(took/2).UnixMilli())
		}
	}
	return nil
}

// now returns the time by the clock of the database, in ms since 1970.
func (o *Orchestrator) now() int64 {
	if o.clock != nil {
		return o.clock()
	}
	return time.Now().UnixMilli() + o.offset.Load()
}

// Start makes the tables and begins to work on instances that are due. It comes before the Start of the bus, and ctx bounds
// it alone.
func (o *Orchestrator) Start(ctx context.Context) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.started.Load() {
		return fmt.Errorf("saga: %w: the Orchestrator was started before", bus.ErrInvalid)
	}
	if err := o.Prepare(ctx); err != nil {
		return err
	}
	o.started.Store(true)
	o.run, o.cancel = context.WithCancel(context.WithoutCancel(ctx))
	var polling context.Context
	polling, o.polling = context.WithCancel(o.run)
	o.done = make(chan struct{})
	go o.poll(polling, o.run)
	return nil
}

// Stop stops looking for instances, and lets the attempts that run end; when ctx ends, so do their contexts. It may be
// called at any time, also more than once. It comes after the Stop of the bus.
func (o *Orchestrator) Stop(ctx context.Context) error {
	o.mu.Lock()
	done := o.done
	o.mu.Unlock()
	if done == nil {
		return nil
	}
	o.polling()
	defer o.cancel()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
	}
	o.cancel()
	select {
	case <-done:
	case <-time.After(time.Second):
	}
	return ctx.Err()
}

// Run is Start, and Stop when ctx ends, which waits for as long as an attempt may last.
func (o *Orchestrator) Run(ctx context.Context) error {
	if err := o.Start(ctx); err != nil {
		return err
	}
	<-ctx.Done()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), o.cfg.AttemptTimeout)
	defer cancel()
	return o.Stop(stop)
}

// at is where a test ends the process.
func (o *Orchestrator) at(point string) {
	if o.crash != nil {
		o.crash(point)
	}
}
