package pgtail

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/testservices"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestNames(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"", "Upper", "a-b", "a;drop", strings.Repeat("a", 64)} {
		if _, err := New(nil, Config{Name: bad}); err == nil {
			t.Errorf("the name %q is taken", bad)
		}
	}
}

func TestLevel(t *testing.T) {
	t.Parallel()
	if err := checkLevel("replica"); !errors.Is(err, ErrWALLevel) || !strings.Contains(err.Error(), "ALTER SYSTEM") {
		t.Errorf("got %v, want it to say what to do", err)
	}
}

// TestTail runs on a server of its own: a slot can only be made once all transactions of the server have ended that had
// begun before.
func TestTail(t *testing.T) {
	t.Parallel()
	server := testservices.Private(t, "postgres")
	run := func(name string, f func(*testing.T, *fixture)) {
		t.Run(name, func(t *testing.T) { f(t, newFixture(t, server.URL, "t_"+strings.ReplaceAll(name, " ", "_"))) })
	}
	for name, f := range map[string]func(*testing.T, *fixture){
		"commits": testCommits,
		"resumes": testResumes,
		"fails":   testFails,
		"busy":    testBusy,
		"large":   testLarge,
		"foreign": testForeign,
		"at once": testAtOnce,
		"idle":    testIdle,
		"silent":  testSilent,
		"waits":   testWaits,
	} {
		run(name, f)
	}
	run("given up", testLost) // the last: it changes a setting of the server
}

// fixture is a table and its Tail.
type fixture struct {
	*Tail
	db    *sql.DB
	url   string
	table string
}

func newFixture(t *testing.T, url, table string) *fixture {
	t.Helper()
	db, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	f := &fixture{db: db, url: url, table: table}
	f.exec(t, "CREATE TABLE "+table+" (n bigint, note text)")
	if f.Tail, err = New(db, Config{Name: table, Table: table, Logger: slog.New(slog.DiscardHandler)}); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *fixture) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := f.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (f *fixture) prepare(t *testing.T) {
	t.Helper()
	if err := f.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) insert(t *testing.T, from, to int) {
	t.Helper()
	f.exec(t, "INSERT INTO "+f.table+" SELECT i, 'note ' || i FROM generate_series($1::bigint, $2::bigint) i", from, to)
}

// reader is a running Tail and what it has read.
type reader struct {
	mu    sync.Mutex
	got   []string
	most  int // rows in one batch
	fail  error
	begun bool
	done  chan error
	stop  context.CancelFunc
}

func (f *fixture) read(t *testing.T) *reader {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &reader{done: make(chan error, 1), stop: cancel}
	begin := func(context.Context) error { r.mu.Lock(); defer r.mu.Unlock(); r.begun = true; return nil }
	go func() {
		r.done <- f.Run(ctx, begin, func(_ context.Context, rows []Row) error {
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.fail != nil {
				return r.fail
			}
			r.most = max(r.most, len(rows))
			for _, row := range rows {
				r.got = append(r.got, string(row.Text("n")))
				if want := "note " + string(row.Text("n")); string(row.Text("note")) != want || row.Text("other") != nil {
					r.fail = fmt.Errorf("note %q, want %q", row.Text("note"), want)
				}
			}
			return nil
		})
	}()
	t.Cleanup(cancel)
	return r
}

// free waits until the server has seen that the reader is gone.
func (f *fixture) free(t *testing.T) {
	t.Helper()
	eventually(t, "the slot is free", func() bool {
		s, err := f.Slot(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Reader == 0
	})
}

func (r *reader) seen() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.got)
}

func (r *reader) end(t *testing.T) {
	t.Helper()
	r.stop()
	if err := <-r.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

// eventually polls until what it wants is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !so(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
	}
}

func numbers(from, to int) (list []string) {
	for i := from; i <= to; i++ {
		list = append(list, fmt.Sprint(i))
	}
	return list
}

func expect(t *testing.T, r *reader, want ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d rows", len(want)), func() bool { r.mu.Lock(); defer r.mu.Unlock(); return len(r.got) >= len(want) })
	if got := r.seen(); !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

// testCommits: transactions appear in the order of their commits, and one that was rolled back does not.
func testCommits(t *testing.T, f *fixture) {
	f.prepare(t)
	r := f.read(t)
	defer r.end(t)
	begin := func(n int) *sql.Tx {
		tx, err := f.db.BeginTx(t.Context(), nil)
		if err == nil {
			_, err = tx.ExecContext(t.Context(), "INSERT INTO "+f.table+" VALUES ($1::bigint, 'note ' || $1)", n)
		}
		if err != nil {
			t.Fatal(err)
		}
		return tx
	}
	first, second, third := begin(1), begin(2), begin(3)
	if err := errors.Join(third.Commit(), second.Rollback(), first.Commit()); err != nil {
		t.Fatal(err)
	}
	expect(t, r, "3", "1")
}

// testResumes: what was handled is not read again, and what comes while nobody reads is read later.
func testResumes(t *testing.T, f *fixture) {
	f.prepare(t)
	r := f.read(t)
	f.insert(t, 1, 10)
	expect(t, r, numbers(1, 10)...)
	r.end(t)
	f.insert(t, 11, 20)
	f.prepare(t) // changes nothing
	f.free(t)
	r = f.read(t)
	defer r.end(t)
	expect(t, r, numbers(11, 20)...)
}

// testFails: what handle failed for is read again.
func testFails(t *testing.T, f *fixture) {
	f.prepare(t)
	r := f.read(t)
	f.insert(t, 1, 5)
	expect(t, r, numbers(1, 5)...)
	r.mu.Lock()
	r.fail = errors.New("target down")
	r.mu.Unlock()
	f.insert(t, 6, 10)
	if err := <-r.done; !errors.Is(err, r.fail) {
		t.Errorf("Run: %v, want the error of handle", err)
	}
	f.free(t)
	r = f.read(t)
	defer r.end(t)
	expect(t, r, numbers(6, 10)...)
}

// testBusy: one reads at a time, and another takes over.
func testBusy(t *testing.T, f *fixture) {
	f.prepare(t)
	r := f.read(t)
	eventually(t, "the first has begun", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.begun })
	if err := <-f.read(t).done; !errors.Is(err, ErrBusy) {
		t.Errorf("the second Run: %v, want ErrBusy", err)
	}
	if err := f.Drop(t.Context()); !errors.Is(err, ErrBusy) {
		t.Errorf("Drop: %v, want ErrBusy", err)
	}
	r.end(t)
	eventually(t, "the slot can be dropped", func() bool { return f.Drop(t.Context()) == nil })
	if n, err := f.Slot(t.Context()); n != (Slot{}) || err != nil {
		t.Errorf("without a slot: %+v, %v", n, err)
	}
	if err := f.Drop(t.Context()); err != nil {
		t.Errorf("Drop again: %v", err)
	}
}

// testLarge: a transaction larger than what is held in memory comes in batches, in order.
func testLarge(t *testing.T, f *fixture) {
	f.prepare(t)
	r := f.read(t)
	defer r.end(t)
	const n = 100_000 // with rowOverhead more than pendingBytes
	f.insert(t, 1, n)
	f.insert(t, n+1, n+1)
	expect(t, r, numbers(1, n+1)...)
	if r.most > batchRows {
		t.Errorf("a batch of %d rows", r.most)
	}
}

func testForeign(t *testing.T, f *fixture) {
	f.exec(t, "CREATE PUBLICATION "+f.table+" FOR TABLE "+f.table)
	if err := f.Prepare(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("a publication of updates, too: %v", err)
	}
	f.exec(t, "DROP PUBLICATION "+f.table)
	f.exec(t, "SELECT pg_create_physical_replication_slot($1)", f.table)
	if err := f.Prepare(t.Context()); !errors.Is(err, ErrForeign) {
		t.Errorf("a physical slot: %v", err)
	}
	f.exec(t, "SELECT pg_drop_replication_slot($1)", f.table)
	f.prepare(t)
}

// testAtOnce: many instances prepare at once.
func testAtOnce(t *testing.T, f *fixture) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if err := f.Prepare(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

// testIdle: what others write does not pile up behind a slot that has nothing to read.
func testIdle(t *testing.T, f *fixture) {
	f.prepare(t)
	r := f.read(t)
	defer r.end(t)
	f.insert(t, 1, 1)
	expect(t, r, "1")
	f.exec(t, "CREATE TABLE noise AS SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i")
	eventually(t, "the slot lets the log go", func() bool {
		f.exec(t, "CHECKPOINT") // writes what the server writes every 15 s by itself: which transactions run
		n, err := f.Slot(t.Context())
		return err == nil && n.Retained < 1<<20
	})
}

// testSilent: a server that says nothing any more is given up, and one that has nothing to say is not.
func testSilent(t *testing.T, f *fixture) {
	f.prepare(t)
	s := testservices.NewSilencer(t, f.url)
	defer s.Close()
	db, err := sql.Open("pgx", s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	far := *f
	far.Tail = &Tail{db: db, cfg: f.cfg, silence: time.Minute}
	r := far.read(t)
	f.insert(t, 1, 1)
	expect(t, r, "1")
	said := s.Said()
	eventually(t, "the server says that it is there", func() bool { return s.Said() > said+1 })
	r.end(t)
	f.free(t)
	far.silence = time.Second
	r = far.read(t)
	eventually(t, "it has begun", func() bool { r.mu.Lock(); defer r.mu.Unlock(); return r.begun })
	s.Silence()
	select {
	case err := <-r.done:
		if err == nil || !strings.Contains(err.Error(), "said nothing") {
			t.Errorf("Run: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Run goes on")
	}
}

// testWaits: a slot cannot be made while an older transaction is open, and somebody is told.
func testWaits(t *testing.T, f *fixture) {
	tx, err := f.db.BeginTx(t.Context(), nil)
	if err == nil {
		_, err = tx.ExecContext(t.Context(), "INSERT INTO "+f.table+" VALUES (1, 'old')")
	}
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 1)
	f.cfg.Logger, f.patience = slog.New(slog.NewTextHandler(writerFunc(func(p []byte) (int, error) { said <- string(p); return len(p), nil }), nil)), time.Millisecond
	prepared := make(chan error, 1)
	go func() { prepared <- f.Prepare(t.Context()) }()
	select {
	case line := <-said:
		if !strings.Contains(line, "transactions") || !strings.Contains(line, f.table) {
			t.Errorf("it said %q", line)
		}
	case <-time.After(time.Minute):
		t.Error("nobody is told")
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := <-prepared; err != nil {
		t.Error(err)
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// testLost: a slot that fell behind further than the server allows is made anew.
func testLost(t *testing.T, f *fixture) {
	f.prepare(t)
	f.exec(t, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
	f.exec(t, "SELECT pg_reload_conf()")
	t.Cleanup(func() {
		_, _ = f.db.Exec("ALTER SYSTEM RESET max_slot_wal_keep_size")
		_, _ = f.db.Exec("SELECT pg_reload_conf()")
	})
	eventually(t, "the server gives the slot up", func() bool {
		f.exec(t, "SELECT pg_logical_emit_message(false, 'postbus test', repeat('x', 1000000))")
		f.exec(t, "SELECT pg_switch_wal()")
		f.exec(t, "CHECKPOINT")
		var status string
		if err := f.db.QueryRow("SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", f.table).Scan(&status); err != nil {
			t.Fatal(err)
		}
		return status == "lost"
	})
	f.prepare(t)
	r := f.read(t)
	defer r.end(t)
	f.insert(t, 1, 3)
	expect(t, r, numbers(1, 3)...)
}
