// Package storefx opens the database of an fx application whose configuration names one.
package storefx

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/fx"

	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/internal/loopfx"
	"github.com/postbus/postbus/store"
)

// Module provides the *store.DB that the key "store" of the configuration names. A constructor opens it; it is closed
// after all that needs it has stopped.
var Module = fx.Module("postbus/store", fx.Provide(open))

type params struct {
	fx.In
	Lifecycle fx.Lifecycle
	Config    *config.Config
	Opened    *loopfx.Opened `optional:"true"`
}

func open(p params) (*store.DB, error) {
	if p.Config.Store == "" {
		return nil, errors.New("config: store: there is no database; set the key, or POSTBUS_STORE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), fx.DefaultTimeout)
	defer cancel()
	db, err := store.Open(ctx, string(p.Config.Store))
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	p.Opened.CloseAtStop(p.Lifecycle, db.Close)
	return db, nil
}
