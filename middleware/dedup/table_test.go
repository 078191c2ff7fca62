package dedup_test

import (
	"bytes"
	"context"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/sqltext"
	"github.com/postbus/postbus/middleware/dedup"
	"github.com/postbus/postbus/store"
)

func TestKnownAfterARestart(t *testing.T) {
	t.Parallel()
	inStores(t, func(t *testing.T, cfg dedup.Config) {
		calls := 0
		for range 3 {
			d := dedup.New(cfg)
			must(t, d.Prepare(t.Context()))
			must(t, deliver(t.Context(), d.Middleware(func(context.Context, *bus.Delivery) error { calls++; return nil }), "billing", "m-1"))
		}
		if calls != 1 {
			t.Errorf("handled %d times", calls)
		}
	})
}

// TestWhatWasHandledIsRecorded by a database that takes its time, longer than the lease.
func TestWhatWasHandledIsRecorded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), "sqlite::memory:")
		must(t, err)
		defer db.Close()
		calls := 0
		chain := dedup.New(dedup.Config{Store: db, Logger: quiet}).Middleware(func(context.Context, *bus.Delivery) error {
			if calls++; calls > 1 {
				return nil
			}
			tx, err := db.SQL().Begin() // has the only connection
			time.AfterFunc(30*time.Second, func() { _ = tx.Rollback() })
			return err
		})
		must(t, deliver(t.Context(), chain, "billing", "m-1"))
		must(t, deliver(t.Context(), chain, "billing", "m-1"))
		if calls != 1 {
			t.Errorf("handled %d times", calls)
		}
	})
}

// TestALeaseEnds leaves a claim of a process that died.
func TestALeaseEnds(t *testing.T) {
	t.Parallel()
	inStores(t, func(t *testing.T, cfg dedup.Config) {
		d := dedup.New(cfg)
		must(t, d.Prepare(t.Context()))
		begin, calls := time.Now(), 0
		exec(t, cfg.Store, "INSERT INTO postbus_dedup (grp, id, owner, at_ms) VALUES ('billing', '\nm-1', 'dead', "+
			sqltext.Now(cfg.Store.Dialect())+" + 300)")
		must(t, deliver(t.Context(), d.Middleware(func(context.Context, *bus.Delivery) error { calls++; return nil }), "billing", "m-1"))
		if took := time.Since(begin); took < 200*time.Millisecond || calls != 1 {
			t.Errorf("handled %d times, after %v", calls, took)
		}
	})
}

func TestALeaseIsRenewedWhileTheHandlerRuns(t *testing.T) {
	t.Parallel()
	inStores(t, func(t *testing.T, cfg dedup.Config) {
		cfg.Lease = 12 * time.Second // longer than a slow machine takes for what comes after a renewal
		var running, most atomic.Int32
		entered, goOn := make(chan struct{}, 2), make(chan struct{})
		handle := func(context.Context, *bus.Delivery) error {
			most.Store(max(most.Load(), running.Add(1)))
			entered <- struct{}{}
			<-goOn
			running.Add(-1)
			return nil
		}
		var wg sync.WaitGroup
		start := func() {
			chain := dedup.New(cfg).Middleware(handle)
			wg.Go(func() {
				if err := deliver(t.Context(), chain, "billing", "m-1"); err != nil {
					t.Error(err)
				}
			})
		}
		ends := func() (at int64) {
			must(t, cfg.Store.SQL().QueryRowContext(t.Context(), "SELECT at_ms FROM postbus_dedup").Scan(&at))
			return at
		}
		start()
		<-entered
		for range 2 {
			before := ends()
			eventually(t, "the lease to be renewed", func() bool { return ends() > before })
		}
		start()
		select {
		case <-entered:
			t.Error("handled by two at once")
		case <-time.After(100 * time.Millisecond): // cannot be too short, only too lenient
		}
		close(goOn)
		wg.Wait()
		if most.Load() != 1 || len(entered) != 0 {
			t.Errorf("%d at once, and handled %d times more", most.Load(), len(entered))
		}
	})
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	inStores(t, func(t *testing.T, cfg dedup.Config) {
		var calls sync.Map
		handle := func(_ context.Context, d *bus.Delivery) error {
			n, _ := calls.LoadOrStore(d.Message().ID, new(atomic.Int32))
			n.(*atomic.Int32).Add(1)
			return nil
		}
		ids := strings.Fields("a b c d e f g h i j")
		var wg sync.WaitGroup
		for range 4 {
			chain := dedup.New(cfg).Middleware(handle)
			for range 2 {
				wg.Go(func() {
					for _, id := range ids {
						if err := deliver(t.Context(), chain, "billing", id); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		for _, id := range ids {
			if n, _ := calls.Load(id); n == nil || n.(*atomic.Int32).Load() != 1 {
				t.Errorf("%s was handled %v times", id, n)
			}
		}
	})
}

// syncBuffer is a buffer for a logger and a test at once.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}
func (s *syncBuffer) String() string { s.mu.Lock(); defer s.mu.Unlock(); return s.b.String() }

func TestAStoreInTrouble(t *testing.T) {
	t.Parallel()
	db, err := store.Open(t.Context(), "sqlite:"+filepath.Join(t.TempDir(), "x.db"))
	must(t, err)
	t.Cleanup(func() { _ = db.Close() })
	var log syncBuffer
	d := dedup.New(dedup.Config{Store: db, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	must(t, d.Prepare(t.Context()))
	exec(t, db, "ALTER TABLE postbus_dedup RENAME TO away")
	calls := 0
	chain := d.Middleware(func(context.Context, *bus.Delivery) error {
		if calls++; calls == 2 {
			exec(t, db, "DROP TABLE postbus_dedup")
		}
		return nil
	})
	result := make(chan error, 1)
	go func() { result <- deliver(t.Context(), chain, "billing", "m-1") }()
	eventually(t, "a warning", func() bool { return strings.Contains(log.String(), "the store cannot be asked") })
	exec(t, db, "ALTER TABLE away RENAME TO postbus_dedup")
	must(t, <-result)
	if !strings.Contains(log.String(), "the store answers again") {
		t.Errorf("the end of the trouble was not told:\n%s", log.String())
	}
	// What was handled is not failed because it cannot be recorded.
	must(t, deliver(t.Context(), chain, "billing", "m-2"))
	if calls != 2 || !strings.Contains(log.String(), "could not be recorded") {
		t.Errorf("handled %d times:\n%s", calls, log.String())
	}
	// And one that waits for the store gives way.
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := deliver(ctx, chain, "billing", "m-3"); err == nil || calls != 2 {
		t.Errorf("handled without the store: %v", err)
	}
}
