package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/internal/testservices"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/transport"
)

// TestTail runs on a server of its own: a slot can only be made once all transactions of the server have ended that had
// begun before.
func TestTail(t *testing.T) {
	t.Parallel()
	server := testservices.Private(t, "postgres")
	for _, tc := range []struct {
		name string
		test func(*testing.T, *fixture)
	}{
		{"forwards", testTailForwards},
		{"in the order of commits", testTailOrder},
		{"in the order of commits, while the table is read", testTailOrderOfPages},
		{"past an open transaction", testTailOpen},
		{"more than has room", testTailRoom},
		{"scheduled", testTailScheduled},
		{"after polling", testTailAfterPolling},
		{"several", testTailSeveral},
		{"attended", testTailAttended},
		{"lost connection", testTailCut},
		{"refused", testTailRefused},
		{"foreign slot", testTailForeign},
		{"debezium", testTailDebezium},
		{"killed", testTailKilled},
		{"lost slot", testTailLost}, // the last: it changes a setting of the server
	} {
		t.Run(tc.name, func(t *testing.T) { tc.test(t, newPostgres(t, server.URL)) })
	}
}

// tailing starts a Forwarder with Tail, whose slot goes at the end.
func (f *fixture) tailing(t *testing.T, box *outbox.Box, to transport.Transport, cfg outbox.ForwarderConfig) *outbox.Forwarder {
	t.Helper()
	cfg.Tail = true
	t.Cleanup(func() { f.dropTail(t, box) })
	return forward(t, box, to, cfg)
}

// dropTail waits until the server has seen that the reader is gone.
func (f *fixture) dropTail(t *testing.T, box *outbox.Box) {
	eventually(t, "the slot is dropped", func() bool {
		err := box.DropTail(context.Background())
		if err != nil && !errors.Is(err, outbox.ErrSlotBusy) {
			t.Fatal(err)
		}
		return err == nil
	})
}

func (f *fixture) waiting() int { return f.count("SELECT COUNT(*) FROM " + f.outboxTable()) }

func testTailForwards(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	f.commit(t, box, order("early", 1))
	var r target
	fw := f.tailing(t, box, &r, outbox.ForwarderConfig{})
	r.want(t, "orders early1")
	tx := f.begin()
	if err := box.In(tx).Publish(t.Context(), order("never", 1)); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	f.commit(t, box, order("a", 1), order("a", 2))
	f.commit(t, box, order("a", 3))
	r.want(t, "orders early1", "orders a1", "orders a2", "orders a3")
	m := r.msgs[1]
	if m.Key != "a" || m.Name != "orders.placed" || string(m.Payload) != `{"order_id":"a","n":1}` || m.Metadata != nil || m.Time.IsZero() {
		t.Errorf("got %+v", m)
	}
	eventually(t, "an empty outbox", func() bool { return f.waiting() == 0 })
	b, err := fw.Backlog(t.Context())
	if err != nil || !b.Active || b.Owner == "" || b.Messages != 0 || b.Retained <= 0 {
		t.Errorf("backlog %+v, %v", b, err)
	}
	if err := box.DropTail(t.Context()); !errors.Is(err, outbox.ErrSlotBusy) {
		t.Errorf("drop while it is read: %v", err)
	}
	stopForwarder(t, fw)
	f.commit(t, box, order("a", 4))
	forward(t, box, &r, outbox.ForwarderConfig{Tail: true})
	r.want(t, "orders early1", "orders a1", "orders a2", "orders a3", "orders a4")
}

// testTailOrder: a transaction that began first and published last comes last.
func testTailOrder(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	f.tailing(t, box, &r, outbox.ForwarderConfig{})
	first := f.begin()
	if _, err := first.ExecContext(t.Context(), "INSERT INTO business (id) VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	f.commit(t, box, order("a", 1))
	if err := box.In(first).Publish(t.Context(), order("a", 2)); err != nil {
		t.Fatal(err)
	}
	if err := first.Commit(); err != nil {
		t.Fatal(err)
	}
	r.want(t, "orders a1", "orders a2")
}

// testTailOrderOfPages: what commits between two pages of a look does not come after what was published later.
func testTailOrderOfPages(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	stopForwarder(t, f.tailing(t, box, &r, outbox.ForwarderConfig{})) // a slot cannot be made beside open transactions
	// Begun before c and committed after it; ids of transactions say nothing about the order of a1 and a2 either.
	last, late := f.begin(), f.begin()
	if _, err := last.ExecContext(t.Context(), "INSERT INTO business (id) VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	if err := box.In(late).Publish(t.Context(), order("a", 1)); err != nil {
		t.Fatal(err)
	}
	f.commit(t, box, order("c", 1))
	at, on := make(chan struct{}), make(chan struct{})
	r.fail = func(context.Context, string) error {
		select {
		case at <- struct{}{}:
		case <-on:
			return nil
		}
		<-on
		return nil
	}
	forward(t, box, &r, outbox.ForwarderConfig{Tail: true, Batch: 1}) // a page has one row
	<-at
	if err := late.Commit(); err != nil {
		t.Fatal(err)
	}
	f.commit(t, box, order("b", 1))
	f.commit(t, box, order("a", 2))
	if err := box.In(last).Publish(t.Context(), order("a", 3)); err != nil {
		t.Fatal(err)
	}
	if err := last.Commit(); err != nil {
		t.Fatal(err)
	}
	close(on)
	eventually(t, "all at the target", func() bool { return len(r.all()) >= 5 })
	if got := only(r.all(), "orders a"); !slices.Equal(got, []string{"orders a1", "orders a2", "orders a3"}) {
		t.Errorf("of a: %q", got)
	}
}

func testTailOpen(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	f.tailing(t, box, &r, outbox.ForwarderConfig{})
	open := f.begin()
	if _, err := open.ExecContext(t.Context(), "INSERT INTO business (id) VALUES ('x')"); err != nil {
		t.Fatal(err)
	}
	f.commit(t, box, order("a", 1))
	r.want(t, "orders a1")
}

// testTailRoom: while the target is down, what has no room in memory waits in the table, and the slot holds nothing up.
func testTailRoom(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	r := target{fail: func(context.Context, string) error { return errors.New("down") }}
	fw := f.tailing(t, box, &r, outbox.ForwarderConfig{Batch: 4})
	var want []string
	put := func(n int) {
		f.commit(t, box, order("a", n))
		want = append(want, fmt.Sprintf("orders a%d", n))
	}
	for n := range 30 {
		put(n)
	}
	retained := func() int64 {
		b, err := fw.Backlog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return b.Retained
	}
	f.exec("CREATE TABLE noise AS SELECT i, repeat('x', 100) FROM generate_series(1, 50000) i")
	eventually(t, "the slot lets the log go", func() bool {
		f.exec("CHECKPOINT")
		return retained() < 1<<20
	})
	r.set(func() { r.fail = nil })
	for n := range 30 {
		put(30 + n)
	}
	r.want(t, want...)
	if r.most > 4 {
		t.Errorf("%d messages were on their way at once", r.most)
	}
	eventually(t, "an empty outbox", func() bool { return f.waiting() == 0 })
}

func testTailScheduled(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	f.tailing(t, box, &r, outbox.ForwarderConfig{})
	scheduled(t, f, box, &r)
}

// testTailAfterPolling: what was forwarded by polling is not forwarded again.
func testTailAfterPolling(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	fw := forward(t, box, &r, outbox.ForwarderConfig{Keep: time.Hour})
	f.commit(t, box, order("a", 1), order("a", 2))
	r.want(t, "orders a1", "orders a2")
	stopForwarder(t, fw)
	f.commit(t, box, order("a", 3))
	fw = f.tailing(t, box, &r, outbox.ForwarderConfig{})
	r.want(t, "orders a1", "orders a2", "orders a3")
	stopForwarder(t, fw)
	f.commit(t, box, order("a", 4))
	forward(t, box, &r, outbox.ForwarderConfig{})
	r.want(t, "orders a1", "orders a2", "orders a3", "orders a4")
}

// testTailSeveral: of several one reads the slot; when it stops, another does.
func testTailSeveral(t *testing.T, f *fixture) {
	var r target
	box := f.box(outbox.Config{Logger: quiet})
	t.Cleanup(func() { f.dropTail(t, box) }) // when both have stopped: either may have the slot
	var all []*outbox.Forwarder
	for range 2 {
		all = append(all, forward(t, outbox.New(f.open(), outbox.Config{Logger: quiet}), &r, outbox.ForwarderConfig{Tail: true}))
	}
	f.commit(t, box, order("a", 1))
	r.want(t, "orders a1")
	for i, fw := range all {
		b, err := fw.Backlog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.Active {
			stopForwarder(t, all[i])
			break
		}
	}
	f.commit(t, box, order("a", 2))
	r.want(t, "orders a1", "orders a2")
}

// testTailAttended: a Forwarder of another process is known by its slot.
func testTailAttended(t *testing.T, f *fixture) {
	var r target
	f.tailing(t, outbox.New(f.open(), outbox.Config{Logger: quiet}), &r, outbox.ForwarderConfig{})
	f.commit(t, f.box(outbox.Config{Logger: quiet}), order("a", 1))
	r.want(t, "orders a1")
	if n := f.warned(t); n != 0 {
		t.Errorf("%d warnings", n)
	}
}

// testTailCut: a connection that is lost is made again.
func testTailCut(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	f.tailing(t, box, &r, outbox.ForwarderConfig{})
	var want []string
	for n := range 5 {
		f.commit(t, box, order("a", n))
		want = append(want, fmt.Sprintf("orders a%d", n))
		r.want(t, want...)
		f.exec("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database() AND active")
	}
}

// testTailRefused: what the target refuses stays in the table, and holds nothing up.
func testTailRefused(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	r := target{refuse: func(_ string, m *transport.Message) error {
		if m.ID == "a1" {
			return transport.ErrTooLarge
		}
		return nil
	}}
	fw := f.tailing(t, box, &r, outbox.ForwarderConfig{})
	f.commit(t, box, order("a", 1), order("a", 2))
	r.want(t, "orders a2")
	eventually(t, "one row left", func() bool { return f.waiting() == 1 })
	stopForwarder(t, fw)
	r.set(func() { r.refuse = nil })
	forward(t, box, &r, outbox.ForwarderConfig{Tail: true})
	r.want(t, "orders a2", "orders a1")
}

// testTailLost: what was committed while the slot was gone is read from the table.
func testTailLost(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	fw := f.tailing(t, box, &r, outbox.ForwarderConfig{})
	f.commit(t, box, order("a", 1))
	r.want(t, "orders a1")
	stopForwarder(t, fw)
	f.exec("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
	f.exec("SELECT pg_reload_conf()")
	t.Cleanup(func() {
		_, err := f.db.SQL().ExecContext(context.Background(), "ALTER SYSTEM RESET max_slot_wal_keep_size")
		if err == nil {
			_, err = f.db.SQL().ExecContext(context.Background(), "SELECT pg_reload_conf()")
		}
		if err != nil {
			t.Error(err)
		}
	})
	f.commit(t, box, order("a", 2))
	eventually(t, "the slot is lost", func() bool {
		f.exec("CREATE TABLE IF NOT EXISTS noise (a text)")
		f.exec("INSERT INTO noise SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
		f.exec("SELECT pg_switch_wal()")
		f.exec("CHECKPOINT")
		return f.count("SELECT COUNT(*) FROM pg_replication_slots WHERE database = current_database() AND wal_status = 'lost'") == 1
	})
	forward(t, box, &r, outbox.ForwarderConfig{Tail: true})
	f.commit(t, box, order("a", 3))
	r.want(t, "orders a1", "orders a2", "orders a3")
}

func testTailKilled(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	t.Cleanup(func() { f.dropTail(t, box) })
	shop := newShop(f)
	shop.tail = true
	shop.killAndAudit(30)
}

// testTailForeign: a slot that is somebody else's is not touched.
func testTailForeign(t *testing.T, f *fixture) {
	box := f.box(outbox.Config{Logger: quiet})
	var r target
	stopForwarder(t, f.tailing(t, box, &r, outbox.ForwarderConfig{}))
	f.dropTail(t, box)
	var database string
	if err := f.db.SQL().QueryRowContext(t.Context(), "SELECT current_database()").Scan(&database); err != nil {
		t.Fatal(err)
	}
	name := outbox.SlotName(database, outbox.DefaultName)
	f.exec("SELECT pg_create_physical_replication_slot($1)", name)
	defer f.exec("SELECT pg_drop_replication_slot($1)", name)
	fw, err := outbox.NewForwarder(box, &r, outbox.ForwarderConfig{Tail: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := fw.Start(t.Context()); !errors.Is(err, outbox.ErrSlotForeign) || !strings.Contains(err.Error(), name) {
		t.Errorf("start on a foreign slot: %v", err)
	}
}

func TestSlotNames(t *testing.T) {
	t.Parallel()
	a, b, c := outbox.SlotName("shop", "postbus_outbox"), outbox.SlotName("other", "postbus_outbox"), outbox.SlotName("shop", "Größe, und ein sehr langer Name ohne Ende")
	if slices.Contains([]string{b, c}, a) || !strings.HasPrefix(a, "postbus_outbox_") || len(c) > 63 {
		t.Errorf("got %q, %q and %q", a, b, c)
	}
}
