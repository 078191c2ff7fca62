// Package storefx opens the database of an fx application whose configuration names one.
package storefx

import (
	"context"
	"errors"
	"fmt"

	"go.uber.org/fx"

	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/store"
)

// Module provides the *store.DB that the key "store" of the configuration names. A constructor opens it; it is closed
// after all that needs it has stopped.
var Module = fx.Module("postbus/store", fx.Provide(open))

func open(lc fx.Lifecycle, cfg *config.Config) (*store.DB, error) {
	if cfg.Store == "" {
		return nil, errors.New("config: store: there is no database; set the key, or POSTBUS_STORE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), fx.DefaultTimeout)
	defer cancel()
	db, err := store.Open(ctx, string(cfg.Store))
	if err != nil {
		return nil, fmt.Errorf("config: store: %w", err)
	}
	lc.Append(fx.StopHook(db.Close))
	return db, nil
}
