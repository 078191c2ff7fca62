package middleware

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
)

// Defaults of KillSwitchConfig.
const (
	DefaultKillSwitchRate          = 0.5
	DefaultKillSwitchMinDeliveries = 20
	DefaultKillSwitchWindow        = time.Minute
	DefaultKillSwitchPause         = 30 * time.Second
)

// KillSwitchConfig configures a KillSwitch.
type KillSwitchConfig struct {
	// Rate is the share of deliveries within Window, between 0 and 1, whose failure pauses a group. Default:
	// DefaultKillSwitchRate.
	Rate float64
	// MinDeliveries is how many deliveries within Window Rate needs to speak. Default: DefaultKillSwitchMinDeliveries.
	MinDeliveries int
	// Window is the time that is looked back on, in steps of a tenth. Default: DefaultKillSwitchWindow.
	Window time.Duration
	// Pause is how long a group waits before one delivery probes. If that succeeds the group goes on, if it fails the group
	// waits as long again. Default: DefaultKillSwitchPause.
	Pause time.Duration
	// If says which errors count, besides ErrParked, which does not. It is called concurrently. Default: all, those that are
	// bus.Permanent included.
	If func(error) bool
	// Logger gets a line when a group pauses (at slog.LevelError), stays paused (slog.LevelWarn) and goes on
	// (slog.LevelInfo). Default: slog.Default() at the time of the call of NewKillSwitch.
	Logger *slog.Logger
}

// KillSwitch pauses a group that fails beyond a rate, instead of letting it drain its topic into quarantine; the name and
// the idea are MassTransit's. While a group is paused its deliveries wait in their workers: they use up no attempt, and
// nothing more is fetched than Prefetch allows. After a while a single one probes. Each group is judged by itself, and so
// is each process. When ctx ends or the bus begins to stop, a delivery that waits returns at once, with an error that does
// not count as an attempt, and matches bus.ErrStopped in a bus that stops.
//
// It belongs outside of Quarantined, whose bus.SetAside errors are failures to it: Middleware is a bus.Middleware, and
// Standard has a place for it. A broker that wants each delivery settled within some time (RabbitMQ: consumer_timeout,
// 30 minutes) takes back those that wait for longer, and brings them again.
//
// Its methods may be called concurrently.
type KillSwitch struct {
	cfg    KillSwitchConfig
	groups sync.Map // of *groupSwitch, by name
}

// NewKillSwitch makes a KillSwitch.
func NewKillSwitch(cfg KillSwitchConfig) *KillSwitch {
	cfg.Rate = orDefault(cfg.Rate, DefaultKillSwitchRate)
	cfg.MinDeliveries = orDefault(cfg.MinDeliveries, DefaultKillSwitchMinDeliveries)
	cfg.Window = orDefault(cfg.Window, DefaultKillSwitchWindow)
	cfg.Pause = orDefault(cfg.Pause, DefaultKillSwitchPause)
	cfg.Logger = logger(cfg.Logger)
	if cfg.If == nil {
		cfg.If = func(error) bool { return true }
	}
	return &KillSwitch{cfg: cfg}
}

// Middleware is the bus.Middleware.
func (k *KillSwitch) Middleware(next bus.Handler) bus.Handler {
	var last atomic.Pointer[groupSwitch] // there is one group to a handler, in a bus
	return func(ctx context.Context, d *bus.Delivery) error {
		g := last.Load()
		if g == nil || g.name != d.Group {
			g = k.group(d.Group)
			last.Store(g)
		}
		probe, err := g.enter(ctx)
		if err != nil {
			return err
		}
		outcome := errUnknown // until it returns, if it does
		defer func() { g.left(ctx, probe, outcome) }()
		err = next(ctx, d)
		if outcome = err; err != nil && (halt.Interrupted(ctx, err) || errors.Is(err, ErrParked) || !k.cfg.If(err)) {
			outcome = errNone
		}
		return err
	}
}

// Pause is the state of a group that a KillSwitch has paused.
type Pause struct {
	// Since is when the group was paused.
	Since time.Time
	// Until is when the next delivery probes, or began to.
	Until time.Time
	// Cause is the error of the last failure.
	Cause error
}

// Paused returns the groups that are paused now; empty if none is. The Health of the bus tells of them, too.
func (k *KillSwitch) Paused() map[string]Pause {
	paused := map[string]Pause{}
	for name, g := range k.groups.Range {
		g := g.(*groupSwitch)
		g.mu.Lock()
		if !g.running.Load() {
			paused[name.(string)] = g.pause
		}
		g.mu.Unlock()
	}
	return paused
}

func (k *KillSwitch) group(name string) *groupSwitch {
	if g, ok := k.groups.Load(name); ok {
		return g.(*groupSwitch)
	}
	fresh := &groupSwitch{cfg: &k.cfg, name: name, changed: make(chan struct{}), tally: newTally(k.cfg.Window)}
	fresh.running.Store(true)
	g, _ := k.groups.LoadOrStore(name, fresh)
	return g.(*groupSwitch)
}

// groupSwitch is the switch of one group. While it runs, a delivery that succeeds costs one atomic addition.
type groupSwitch struct {
	cfg  *KillSwitchConfig
	name string

	running   atomic.Bool // changed under mu
	successes atomic.Int64

	mu      sync.Mutex
	tally   tally
	pause   Pause // while it does not run
	probing bool
	changed chan struct{} // closed when a probe has ended
}

// enter waits while the group is paused, and reports whether the delivery is the probe.
func (g *groupSwitch) enter(ctx context.Context) (probe bool, err error) {
	for !g.running.Load() {
		if err := halt.Ended(ctx, "middleware: kill switch"); err != nil {
			return false, err
		}
		g.mu.Lock()
		if g.running.Load() {
			g.mu.Unlock()
			return false, nil
		}
		left := time.Until(g.pause.Until)
		if !g.probing && left <= 0 {
			g.probing = true
			g.mu.Unlock()
			return true, nil
		}
		probing, changed := g.probing, g.changed
		g.mu.Unlock()
		timer := time.NewTimer(max(0, left))
		due := timer.C
		if probing {
			due = nil // it is the probe that ends this
		}
		select {
		case <-due:
		case <-changed:
		case <-ctx.Done():
		case <-bus.Stopping(ctx):
		}
		timer.Stop()
	}
	return false, nil
}

// left takes the outcome of a delivery: nil, a failure, or errNone.
func (g *groupSwitch) left(ctx context.Context, probe bool, outcome error) {
	switch {
	case probe:
		g.probed(ctx, outcome)
	case outcome == nil:
		g.successes.Add(1)
	case outcome != errNone:
		g.failed(ctx, outcome)
	}
}

// failed counts a failure, and pauses the group if it was one too many. Those of a paused group began before the pause.
func (g *groupSwitch) failed(ctx context.Context, cause error) {
	g.mu.Lock()
	if !g.running.Load() {
		g.mu.Unlock()
		return
	}
	now := time.Now()
	failures, all := g.tally.add(now, int(g.successes.Swap(0)), 1)
	if all < g.cfg.MinDeliveries || float64(failures) < g.cfg.Rate*float64(all) {
		g.mu.Unlock()
		return
	}
	g.pause = Pause{Since: now, Until: now.Add(g.cfg.Pause), Cause: cause}
	g.running.Store(false)
	bus.SetPaused(ctx, cause)
	g.mu.Unlock()
	g.cfg.Logger.Error("middleware: kill switch: the group fails too often and is paused", "group", g.name,
		"failures", failures, "deliveries", all, "within", g.cfg.Window, "pause", g.cfg.Pause, "error", cause)
}

// probed takes the outcome of the probe.
func (g *groupSwitch) probed(ctx context.Context, outcome error) {
	g.mu.Lock()
	g.probing = false
	close(g.changed)
	g.changed = make(chan struct{})
	since, now := g.pause.Since, time.Now()
	switch {
	case outcome == nil:
		g.tally = newTally(g.cfg.Window)
		g.successes.Store(0)
		g.pause = Pause{}
		g.running.Store(true)
		bus.SetPaused(ctx, nil)
	case outcome != errNone:
		g.pause.Until, g.pause.Cause = now.Add(g.cfg.Pause), outcome
		bus.SetPaused(ctx, outcome)
	} // else it says nothing, and the next one probes
	g.mu.Unlock()
	switch {
	case outcome == nil:
		g.cfg.Logger.Info("middleware: kill switch: the group goes on", "group", g.name, "paused", now.Sub(since))
	case outcome != errNone:
		g.cfg.Logger.Warn("middleware: kill switch: the probe failed, the group stays paused", "group", g.name,
			"paused", now.Sub(since), "pause", g.cfg.Pause, "error", outcome)
	}
}
