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

	"go.uber.org/fx"

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
// one group.
//
// The tables are made before the bus starts. While the application runs, what has expired is removed, and what was
// interrupted goes on.
var Module = fx.Module("postbus/quarantine", fx.Provide(newStore))

type params struct {
	fx.In
	DB         *store.DB
	Transport  transport.Transport
	Lifecycle  fx.Lifecycle
	Shutdowner fx.Shutdowner
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
