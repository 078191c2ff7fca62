package sqllog

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"sync"
	"time"

	"github.com/postbus/postbus/internal/params"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

//go:embed migrations
var migrations embed.FS

// Driver is what differs between the packages that open a Log.
type Driver struct {
	// Dialect is that of the databases.
	Dialect store.Dialect
	// Poll is the default of Options.Poll.
	Poll time.Duration
	// Bytes has all tables take any bytes, and no parameter of the URL say otherwise. Such a log is never held back, either.
	Bytes bool
	// New makes the dialect in a database. Listen is that of Options.
	New func(ctx context.Context, db *store.DB, listen bool) (Dialect, error)
}

// OpenURL opens the database of u, which closes with the Log, and the Log in it.
func (d Driver) OpenURL(ctx context.Context, u *url.URL) (*Log, error) {
	o := Options{Listen: true}
	r := params.Read(u)
	o.ReadParams(r, !d.Bytes)
	if _, err := o.config(d.Poll); err != nil {
		return nil, err
	}
	db, err := store.OpenParsed(ctx, u, r)
	if err != nil {
		return nil, err
	}
	l, err := d.Use(ctx, db, o)
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	l.cfg.Close = db.Close
	return l, nil
}

// Use opens the Log in db, which stays the caller's to close.
func (d Driver) Use(ctx context.Context, db *store.DB, o Options) (*Log, error) {
	if db.Dialect() != d.Dialect {
		return nil, fmt.Errorf("%s: the database is of dialect %s", d.Dialect, db.Dialect())
	}
	o.PayloadBytes = o.PayloadBytes || d.Bytes
	cfg, err := o.config(d.Poll)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", transport.ErrInvalid, err)
	}
	cfg.Close = func() error { return nil }
	dialect, err := d.New(ctx, db, o.Listen)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d.Dialect, err)
	}
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	if err := db.Migrate(ctx, store.Schema{Name: "log", Files: files}); err != nil {
		return nil, err
	}
	if cfg.Watch = cfg.Poll; dialect.Watches() {
		cfg.Poll = max(cfg.Poll, idlePoll)
	}
	l := New(db.SQL(), dialect, cfg)
	if err := l.measureSkew(ctx); err != nil {
		return nil, l.errorf("%w", err)
	}
	return l, nil
}

var drivers struct {
	sync.RWMutex
	all map[store.Dialect]Driver
}

// Register makes a driver known to [Open], for packages that must not import the drivers. Drivers call it from init.
func Register(d Driver) {
	drivers.Lock()
	defer drivers.Unlock()
	if drivers.all == nil {
		drivers.all = map[store.Dialect]Driver{}
	}
	drivers.all[d.Dialect] = d
}

// Open makes a Log in db, which stays the caller's to close, by the driver that is linked in for its dialect.
func Open(ctx context.Context, db *store.DB, o Options) (*Log, error) {
	drivers.RLock()
	d, linked := drivers.all[db.Dialect()]
	drivers.RUnlock()
	if !linked {
		return nil, fmt.Errorf("the driver for %s is not linked in: add import _ %q", db.Dialect(),
			"github.com/postbus/postbus/transport/"+db.Dialect().String())
	}
	return d.Use(ctx, db, o)
}
