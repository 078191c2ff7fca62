package dedup

import (
	"context"
	"crypto/rand"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/halt"
	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/internal/sweep"
	"github.com/postbus/postbus/store"
)

//go:embed migrations
var migrations embed.FS

// table is the keys in a database. The row of a key that was handled has no owner, and the time when it was recorded; that
// of one which is being handled has the claim as its owner, and the time when its lease ends.
type table struct {
	cfg       *Config
	instance  string // begins the claims of this process
	claims    atomic.Uint64
	sweep     sweep.Sweep
	preparing chan struct{} // holds one while somebody prepares
	prepared  atomic.Bool
	writing   chan struct{} // SQLite: a turn for each statement, instead of sleeping for it
	down      atomic.Bool   // the store did not answer, and somebody has said so

	insert, read, takeOver, renew, record, release string
}

func newTable(cfg *Config) *table {
	d := cfg.Store.Dialect()
	now := sqltext.Now(d)
	lease := now + " + " + strconv.FormatInt(cfg.Lease.Milliseconds(), 10)
	const insert, this = "INSERT INTO postbus_dedup (grp, id, owner, at_ms) VALUES ", " WHERE grp = ? AND id = ?"
	t := &table{
		cfg: cfg, instance: rand.Text(), preparing: make(chan struct{}, 1),
		sweep: sweep.Sweep{
			DB: cfg.Store, Table: "postbus_dedup", Retention: cfg.Retention, Logger: cfg.Logger, Prefix: "dedup",
		},
		insert:   insert + "(?, ?, ?, " + lease + ") ON CONFLICT DO NOTHING",
		read:     "SELECT owner, at_ms, " + now + " FROM postbus_dedup" + this,
		takeOver: "UPDATE postbus_dedup SET owner = ?, at_ms = " + lease + this + " AND owner = ? AND at_ms = ?",
		renew:    "UPDATE postbus_dedup SET at_ms = " + lease + this + " AND owner = ?",
		record:   insert + "(?, ?, '', " + now + ") ON CONFLICT (grp, id) DO UPDATE SET owner = '', at_ms = excluded.at_ms",
		release:  "DELETE FROM postbus_dedup" + this + " AND owner = ?",
	}
	switch d {
	case store.MySQL:
		t.insert = "INSERT IGNORE" + insert[len("INSERT"):] + "(?, ?, ?, " + lease + ")"
		t.record = insert + "(?, ?, '', " + now + ") ON DUPLICATE KEY UPDATE owner = '', at_ms = VALUES(at_ms)"
	case store.SQLite:
		t.writing = make(chan struct{}, 1)
	}
	return t
}

func (t *table) prepare(ctx context.Context) error {
	if t.prepared.Load() {
		return nil
	}
	select {
	case t.preparing <- struct{}{}:
		defer func() { <-t.preparing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if t.prepared.Load() {
		return nil
	}
	files, err := fs.Sub(migrations, "migrations")
	if err == nil {
		err = t.cfg.Store.Migrate(ctx, store.Schema{Name: "dedup", Files: files})
	}
	if err != nil {
		return fmt.Errorf("dedup: prepare: %w", err)
	}
	t.prepared.Store(true)
	return nil
}

func (t *table) handle(ctx context.Context, d *bus.Delivery, k key, next bus.Handler) error {
	c := claim{
		table: t, group: d.Group, id: sqltext.Fit(k.String()),
		owner: t.instance + "/" + strconv.FormatUint(t.claims.Add(1), 10),
	}
	handled, err := c.take(ctx)
	if err != nil {
		return err
	}
	if handled {
		passedOver(ctx, t.cfg.Logger, d)
		return nil
	}
	succeeded, stopRenewing := false, c.keep() // until its outcome is written
	defer func() {
		c.leave(ctx, succeeded)
		stopRenewing()
		t.sweep.Run(ctx)
	}()
	err = next(ctx, d)
	succeeded = err == nil
	return err
}

// exec runs a statement and returns how many rows it found.
func (t *table) exec(ctx context.Context, query string, args ...any) (int64, error) {
	if t.writing != nil {
		select {
		case t.writing <- struct{}{}:
			defer func() { <-t.writing }()
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
	res, err := t.cfg.Store.SQL().ExecContext(ctx, t.cfg.Store.Dialect().Bind(query), args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// failed logs the first of errors in a row.
func (t *table) failed(err error) {
	if !t.down.Swap(true) {
		t.cfg.Logger.Warn("dedup: the store cannot be asked, and deliveries wait for it", "error", err)
	}
}

func (t *table) answered() {
	if t.down.Load() && t.down.Swap(false) {
		t.cfg.Logger.Info("dedup: the store answers again")
	}
}

// Pauses between looks at a key that another delivery handles, and at a store that does not answer.
const (
	firstLook = 10 * time.Millisecond
	lastLook  = time.Second
)

// claim is the right of one delivery to handle a key.
type claim struct {
	table            *table
	group, id, owner string
}

// take waits until it is known that the key was handled, or nobody else handles it.
func (c *claim) take(ctx context.Context) (handled bool, err error) {
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		mine, handled, err := c.try(ctx)
		switch {
		case err == nil:
			c.table.answered()
			if mine || handled {
				return handled, nil
			}
		case ctx.Err() == nil && !store.IsConflict(err):
			c.table.failed(err)
		}
		if err := halt.Wait(ctx, pause, "dedup: wait"); err != nil {
			return false, err
		}
	}
}

func (c *claim) try(ctx context.Context) (mine, handled bool, err error) {
	t := c.table
	if err := t.prepare(ctx); err != nil {
		return false, false, err
	}
	n, err := t.exec(ctx, t.insert, c.group, c.id, c.owner)
	if err != nil || n > 0 {
		return err == nil, false, err
	}
	var owner string
	var at, now int64
	query := t.cfg.Store.Dialect().Bind(t.read)
	err = t.cfg.Store.SQL().QueryRowContext(ctx, query, c.group, c.id).Scan(&owner, &at, &now)
	if errors.Is(err, sql.ErrNoRows) { // it was released in between
		return false, false, nil
	}
	if err != nil {
		return false, false, err
	}
	if owner == c.owner { // an insert whose answer was lost
		return true, false, nil
	}
	if owner == "" {
		if at += t.cfg.Retention.Milliseconds(); t.cfg.Retention < 0 || now < at {
			return false, true, nil
		}
		at -= t.cfg.Retention.Milliseconds()
	} else if now < at {
		return false, false, nil
	}
	n, err = t.exec(ctx, t.takeOver, c.owner, c.group, c.id, owner, at)
	return n > 0, false, err
}

// keep renews the lease until the function that it returns is called.
func (c *claim) keep() (stop func()) {
	t := c.table
	ctx, cancel := context.WithCancel(context.Background())
	var mu sync.Mutex
	var timer *time.Timer
	renew := func() {
		mu.Lock()
		defer mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		if _, err := t.exec(ctx, t.renew, c.group, c.id, c.owner); err != nil && ctx.Err() == nil {
			t.cfg.Logger.Warn("dedup: a lease was not renewed", "group", c.group, "error", err)
		}
		timer.Reset(t.cfg.Lease / 3)
	}
	mu.Lock()
	defer mu.Unlock()
	timer = time.AfterFunc(t.cfg.Lease/3, renew)
	return func() {
		cancel()
		mu.Lock()
		defer mu.Unlock()
		timer.Stop()
	}
}

const (
	// leaveFor is for how long a delivery tries again to have its outcome written.
	leaveFor = 5 * time.Second
	// recordFor is for how long the last of these tries may go on if nobody waits for the delivery to end: what was handled
	// and is not recorded is handled again if it comes again.
	recordFor = time.Minute
)

// leave records the key, if it was handled, and lets others have it. It works on after ctx has ended.
func (c *claim) leave(ctx context.Context, handled bool) {
	t := c.table
	query, args := t.record, []any{c.group, c.id}
	if !handled {
		query, args = t.release, append(args, c.owner)
	}
	began, limit := time.Now(), leaveFor
	if handled && ctx.Err() == nil {
		limit = recordFor
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		_, err := t.exec(ctx, query, args...)
		if err == nil {
			return
		}
		if time.Since(began)+pause < leaveFor {
			time.Sleep(pause)
			continue
		}
		if handled {
			t.cfg.Logger.Warn("dedup: what was handled could not be recorded; if it comes again, it is handled again",
				"group", c.group, "error", err)
		}
		return
	}
}
