// Package quarantinefx has the quarantine of an fx application:
//
//	fx.New(
//		configfx.Module("shop.yaml"),
//		storefx.Module,
//		busfx.Module,
//		quarantinefx.Module,
//	)
package quarantinefx

import (
	"errors"
	"log/slog"
	"maps"
	"slices"
	"sync/atomic"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/internal/loopfx"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// Module provides *quarantine.Store in the *store.DB of the application, also as the middleware.Quarantine that package
// config/configfx puts into the chain; with its quarantine.Config if there is one, and over that what the configuration says:
// the key quarantine, and park_keys of groups. It replays to the transport of the application, if that can bring a message to
// one group. An edit is refused that the bus cannot decode for a group of the application, unless quarantine.Config has its own
// Check.
//
// The tables are made before the bus starts. While the application runs, what has expired is removed, and what was
// interrupted goes on.
var Module = fx.Module("postbus/quarantine", fx.Provide(newStore), fx.Provide(newChecker, fx.Private),
	busfx.Wire(func(c *checker, b *bus.Bus) { c.bus.Store(b) }))

type params struct {
	fx.In
	DB         *store.DB
	Transport  transport.Transport
	Lifecycle  fx.Lifecycle
	Shutdowner fx.Shutdowner
	Checker    *checker
	Config     quarantine.Config `optional:"true"`
	File       *config.Config    `optional:"true"`
	Logger     *slog.Logger      `optional:"true"`
}

type result struct {
	fx.Out
	Store      *quarantine.Store
	Quarantine middleware.Quarantine
	Err        error `group:"postbus.mistakes"`
}

func newStore(p params) result {
	cfg := p.Config
	if cfg.Logger == nil {
		cfg.Logger = p.Logger
	}
	if cfg.Check == nil {
		cfg.Check = p.Checker.check
	}
	if p.File != nil {
		overlay(&cfg, p.File)
	}
	var out result
	switch {
	case cfg.Transport != nil:
	case p.Transport.Capabilities().Target:
		cfg.Transport = p.Transport
	case len(cfg.ParkKeys) > 0:
		out.Err = errors.New("quarantine: keys cannot be parked: the transport cannot bring a message to one group alone")
	}
	s := quarantine.New(p.DB, cfg)
	out.Store, out.Quarantine = s, s
	p.Lifecycle.Append(fx.StartHook(s.Prepare))
	loopfx.Append(p.Lifecycle, p.Shutdowner, "postbus quarantine", s.Run)
	return out
}

// checker knows the bus once that has its handlers: it is made after the Store, which its chain needs.
type checker struct{ bus atomic.Pointer[bus.Bus] }

func newChecker() *checker { return &checker{} }

// check is quarantine.Config.Check. Messages of groups that handle nothing in this application are not known here.
func (c *checker) check(group string, m *transport.Message) error {
	b := c.bus.Load()
	if b == nil {
		return nil
	}
	err := b.CanDecode(group, m)
	if errors.Is(err, bus.ErrInvalid) && !errors.Is(err, bus.ErrDecode) {
		return nil
	}
	return err
}

// overlay puts what the file says over cfg.
func overlay(cfg *quarantine.Config, file *config.Config) {
	if r := file.Quarantine.Retention; r > 0 {
		cfg.Retention = r
	}
	if r := file.Quarantine.Replayed; r > 0 {
		cfg.ReplayedRetention = r
	}
	for _, name := range slices.Sorted(maps.Keys(file.Groups)) {
		if file.Groups[name].ParkKeys && !slices.Contains(cfg.ParkKeys, name) {
			cfg.ParkKeys = append(slices.Clip(cfg.ParkKeys), name)
		}
	}
}
