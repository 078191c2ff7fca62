package sqllog

import (
	"context"
	"fmt"
	"sync"

	"github.com/postbus/postbus/store"
)

// An OpenFunc makes a Log in a database of its dialect.
type OpenFunc func(ctx context.Context, db *store.DB, o Options) (*Log, error)

var drivers struct {
	sync.RWMutex
	open map[store.Dialect]OpenFunc
}

// Register makes a driver known to [Open], for packages that must not import the drivers. Drivers call it from init.
func Register(d store.Dialect, open OpenFunc) {
	drivers.Lock()
	defer drivers.Unlock()
	if drivers.open == nil {
		drivers.open = map[store.Dialect]OpenFunc{}
	}
	drivers.open[d] = open
}

// Open makes a Log in db, which stays the caller's to close, by the driver that is linked in for its dialect.
func Open(ctx context.Context, db *store.DB, o Options) (*Log, error) {
	drivers.RLock()
	open := drivers.open[db.Dialect()]
	drivers.RUnlock()
	if open == nil {
		return nil, fmt.Errorf("the driver for %s is not linked in: add import _ %q", db.Dialect(),
			"github.com/postbus/postbus/transport/"+db.Dialect().String())
	}
	return open(ctx, db, o)
}
