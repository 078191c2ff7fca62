package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
)

// TestAStoreThatCannotBeWritten is down, full or slow: the message is not acknowledged, and comes again until it is safe.
func TestAStoreThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	for name, broken := range map[string]func(t *testing.T, db *store.DB) (mend func()){
		"down": func(t *testing.T, db *store.DB) func() {
			exec(t, db, "ALTER TABLE postbus_quarantine RENAME TO elsewhere")
			return func() { exec(t, db, "ALTER TABLE elsewhere RENAME TO postbus_quarantine") }
		},
		"full": func(t *testing.T, db *store.DB) func() {
			// The limit is of the connection, of which the store has one.
			exec(t, db, "PRAGMA max_page_count = 1")
			return func() { exec(t, db, "PRAGMA max_page_count = 100000") }
		},
		"slow": func(t *testing.T, db *store.DB) func() {
			tx, err := db.SQL().Begin() // holds the only connection, and the lock
			if err != nil {
				t.Fatal(err)
			}
			return func() { _ = tx.Rollback() }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db, err := store.Open(t.Context(), "sqlite::memory:")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			s := newStore(t, db, quarantine.Config{Timeout: 50 * time.Millisecond})
			mend := broken(t, db)
			tr := inMemory(t)
			b, err := bus.New(bus.Config{Transport: tr, Logger: quiet, Middleware: middleware.Standard(middleware.StandardConfig{
				Quarantine: s, Log: middleware.LogConfig{Logger: quiet}, Retry: middleware.RetryConfig{Attempts: 1},
			}), Groups: map[string]bus.GroupConfig{"billing": {MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond}}})
			if err != nil {
				t.Fatal(err)
			}
			var tries atomic.Int64
			big := strings.Repeat("x", 200_000) // more than the free pages of a full database take
			bus.Handle(b, "billing", func(context.Context, step) error {
				tries.Add(1)
				return bus.Permanent(fmt.Errorf("%w: %s", errBroken, big))
			})
			if err := b.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := b.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			}()
			if err := b.Publish(t.Context(), step{"a", 1}); err != nil {
				t.Fatal(err)
			}
			eventually(t, "it to come again", func() bool { return tries.Load() > 2 })
			if stats := b.Stats()["billing"]; stats.SetAside != 0 || stats.Failed == 0 {
				t.Errorf("got %+v, want that it failed, and was not acknowledged", stats)
			}
			mend()
			eventually(t, "it to be in quarantine", func() bool { return b.Stats()["billing"].SetAside == 1 })
			if e := one(t, s, quarantine.Filter{}); e.Key != "a" {
				t.Errorf("got %+v", e)
			}
		})
	}
}

func exec(t *testing.T, db *store.DB, q string) {
	t.Helper()
	if _, err := db.SQL().ExecContext(t.Context(), q); err != nil {
		t.Fatal(err)
	}
}

// TestWhileTheDatabaseOfParkedKeysIsDown messages with a key wait and use up no attempt, and those without are handled.
func TestWhileTheDatabaseOfParkedKeysIsDown(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), "sqlite::memory:")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	s := newStore(t, db, quarantine.Config{Transport: newWire(t), ParkKeys: []string{"billing"}})
	ran := 0
	h := s.Gate(func(context.Context, *bus.Delivery) error { ran++; return nil })
	exec(t, db, "ALTER TABLE postbus_quarantine_key RENAME TO elsewhere")
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := h(ctx, delivery("m1")); !errors.Is(err, context.DeadlineExceeded) || ran != 0 {
		t.Errorf("got %v, handled %d, want that it waits until its context ends", err, ran)
	}
	free := message("m2")
	free.Key = ""
	if err := h(t.Context(), bus.NewDelivery(free, "orders", "billing", 1)); err != nil || ran != 1 {
		t.Errorf("got %v, handled %d", err, ran)
	}
	done := make(chan error, 1)
	go func() { done <- h(t.Context(), delivery("m3")) }()
	exec(t, db, "ALTER TABLE elsewhere RENAME TO postbus_quarantine_key")
	if err := <-done; err != nil || ran != 2 {
		t.Errorf("got %v, handled %d, want it handled once the database answers", err, ran)
	}
}
