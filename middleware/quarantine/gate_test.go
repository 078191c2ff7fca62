package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// step is the event of these tests: step N of an order.
type step struct {
	Order string
	N     int
}

func (step) EventName() string  { return "orders.step" }
func (s step) EventKey() string { return s.Order }
func (s step) String() string   { return fmt.Sprint(s.Order, s.N) }

// till is a handler that fails for what is broken, and notes what it has handled.
type till struct {
	mu      sync.Mutex
	broken  map[string]error
	handled []step
}

func (h *till) handle(_ context.Context, e step) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.broken[e.String()]; err != nil {
		return err
	}
	h.handled = append(h.handled, e)
	return nil
}

func (h *till) breaks(e string, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broken == nil {
		h.broken = map[string]error{}
	}
	h.broken[e] = err
}

// of returns the numbers of an order that were handled, in turn.
func (h *till) of(order string) (numbers []int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.handled {
		if e.Order == order {
			numbers = append(numbers, e.N)
		}
	}
	return numbers
}

// parking are the parts of a test of parked keys: a bus on a transport, with a store that parks the keys of "billing".
type parking struct {
	*till
	store *quarantine.Store
	bus   *bus.Bus
}

func park(t testing.TB, f *fixture, tr transport.Transport, h *till) *parking {
	t.Helper()
	s := f.store(quarantine.Config{Transport: tr, ParkKeys: []string{"billing"}})
	b, err := bus.New(bus.Config{Transport: tr, Logger: quiet, Middleware: middleware.Standard(middleware.StandardConfig{
		Quarantine: s, Log: middleware.LogConfig{Logger: quiet}, Retry: middleware.RetryConfig{Attempts: 1},
	})})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(b, "billing", h.handle)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := &parking{till: h, store: s, bus: b}
	t.Cleanup(func() { p.stop(t) })
	return p
}

func (p *parking) stop(t testing.TB) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := p.bus.Stop(ctx); err != nil {
		t.Error(err)
	}
}

func (p *parking) publish(t testing.TB, order string, from, to int) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := p.bus.Publish(t.Context(), step{order, n}); err != nil {
			t.Fatal(err)
		}
	}
}

// await waits until there are that many entries of a status.
func (p *parking) await(t testing.TB, status quarantine.Status, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d entries that are %s", n, status), func() bool {
		return count(t, p.store, quarantine.Filter{Status: status}) == n
	})
}

func (p *parking) wants(t testing.TB, order string, from, to int) {
	t.Helper()
	var want []int
	for n := from; n <= to; n++ {
		want = append(want, n)
	}
	eventually(t, fmt.Sprint(order, " handled up to ", to), func() bool { return len(p.of(order)) >= len(want) })
	if got := p.of(order); !slices.Equal(got, want) {
		t.Errorf("order %s was handled as %v, want %v", order, got, want)
	}
}

func inMemory(t testing.TB) transport.Transport {
	tr := memory.New(memory.Config{})
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func TestLaterMessagesOfAParkedKeyWaitInOrder(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		p := park(t, f, inMemory(t), &till{})
		p.breaks("a2", bus.Permanent(errBroken))
		p.publish(t, "a", 1, 6)
		p.publish(t, "b", 1, 3)
		p.wants(t, "b", 1, 3) // other keys flow
		p.await(t, quarantine.Parked, 4)
		p.wants(t, "a", 1, 1)
		e := one(t, p.store, quarantine.Filter{})
		if e.Key != "a" || e.Status != quarantine.Waiting {
			t.Errorf("got %+v", e)
		}
		waiting := list(t, p.store, quarantine.Filter{Status: quarantine.Parked})
		if r, err := p.store.Show(t.Context(), waiting[0].ID); err != nil || r.Error != "" || len(r.History) != 0 || r.Attempts != 0 {
			t.Errorf("got %+v %v", r, err)
		}
		check(t, p.store)

		// It fails again: the others go on waiting.
		replay(t, p.store, everything)
		eventually(t, "a second failure", func() bool {
			r, err := p.store.Show(t.Context(), e.ID)
			return err == nil && len(r.History) == 2 && r.Status == quarantine.Waiting
		})
		p.wants(t, "a", 1, 1)

		// One in the middle fails on the way: the line stops there.
		p.breaks("a2", nil)
		p.breaks("a4", bus.Permanent(errBroken))
		if r := replay(t, p.store, everything); r.InLine != 1 || r.Replayed != 0 {
			t.Errorf("got %+v", r)
		}
		p.await(t, quarantine.Parked, 2)
		eventually(t, "a4 to fail", func() bool { return count(t, p.store, quarantine.Filter{}) == 1 })
		p.wants(t, "a", 1, 3)
		p.publish(t, "a", 7, 7)
		p.await(t, quarantine.Parked, 3)
		p.breaks("a4", nil)
		replay(t, p.store, everything)
		p.wants(t, "a", 1, 7)
		p.await(t, quarantine.Handled, 6)

		// The key is free again.
		p.publish(t, "a", 8, 20)
		p.wants(t, "a", 1, 20)
		if n := quarantine.Lines(t, f.db); n != 0 {
			t.Errorf("%d keys are parked still", n)
		}
		check(t, p.store)
	})
}

func TestAKeyGoesOnWhenItsFirstIsDiscarded(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		p := park(t, f, inMemory(t), &till{})
		p.breaks("a1", bus.Permanent(errBroken))
		p.publish(t, "a", 1, 4)
		p.await(t, quarantine.Parked, 3)
		third := list(t, p.store, quarantine.Filter{Status: quarantine.Parked})[1]
		if n, err := p.store.Discard(t.Context(), quarantine.Filter{IDs: []int64{third.ID}, Status: quarantine.Parked}); n != 1 || err != nil {
			t.Error(n, err)
		}
		if n, err := p.store.Discard(t.Context(), everything); n != 1 || err != nil {
			t.Error(n, err)
		}
		eventually(t, "a2 and a4", func() bool { return slices.Equal(p.of("a"), []int{2, 4}) })
		eventually(t, "no parked key", func() bool { return quarantine.Lines(t, f.db) == 0 })
	})
}

// TestAnotherInstanceKnowsParkedKeys hands the topic over from one instance to another.
func TestAnotherInstanceKnowsParkedKeys(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		tr, h := inMemory(t), &till{}
		h.breaks("a1", bus.Permanent(errBroken))
		first := park(t, f, tr, h)
		idle := f.store(quarantine.Config{Transport: tr, ParkKeys: []string{quarantine.AllGroups}})
		first.publish(t, "a", 1, 2)
		first.await(t, quarantine.Parked, 1)
		first.stop(t)
		second := park(t, f, tr, h)
		second.publish(t, "a", 3, 4)
		second.await(t, quarantine.Parked, 3)
		second.breaks("a1", nil)
		// A third process replays; it has no consumer.
		replay(t, idle, everything)
		second.wants(t, "a", 1, 4)
	})
}

// TestACrashWhileALineIsDrained lets the process end when the first was handled, and the next is not published.
func TestACrashWhileALineIsDrained(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		p := park(t, f, inMemory(t), &till{})
		p.breaks("a1", bus.Permanent(errBroken))
		p.publish(t, "a", 1, 3)
		p.await(t, quarantine.Parked, 2)
		p.breaks("a1", nil)
		crashed := quarantine.CrashAt(p.store, "handled")
		replay(t, p.store, everything)
		<-crashed
		p.await(t, quarantine.Handled, 1)
		quarantine.CrashAt(p.store, "")
		p.wants(t, "a", 1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() {
			if err := p.store.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer running.Wait()
		defer cancel()
		quarantine.Age(t, f.db, quarantine.ClaimLease)
		p.wants(t, "a", 1, 3)
		p.await(t, quarantine.Handled, 3)
	})
}

func message2(order string, n int, metadata map[string]string) *transport.Message {
	return &transport.Message{ID: fmt.Sprint(order, n), Name: "orders.step", Key: order, Payload: []byte("{}"), Metadata: metadata}
}

// TestDeliveriesThatComeTwice goes through what a transport may bring once more, without one.
func TestDeliveriesThatComeTwice(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w, ParkKeys: []string{"billing"}})
		var outcome error
		ran := 0
		chain := middleware.Quarantined(s, middleware.QuarantineConfig{Logger: quiet})(func(context.Context, *bus.Delivery) error {
			ran++
			return outcome
		})
		deliver := func(m *transport.Message, want bool) error {
			t.Helper()
			before := ran
			err := chain(t.Context(), bus.NewDelivery(m, "orders", "billing", 1))
			if (ran > before) != want {
				t.Errorf("%s: handled: %v, want %v (%v)", m.ID, ran > before, want, err)
			}
			return err
		}
		parked := func(err error) {
			t.Helper()
			if !bus.IsSetAside(err) || !errors.Is(err, middleware.ErrParked) {
				t.Errorf("got %v, want parked", err)
			}
		}
		outcome = bus.Permanent(errBroken)
		if err := deliver(message2("a", 1, nil), true); !bus.IsSetAside(err) {
			t.Fatal(err)
		}
		outcome = nil
		parked(deliver(message2("a", 1, nil), false)) // its acknowledgement was lost
		parked(deliver(message2("a", 2, nil), false))
		parked(deliver(message2("a", 2, nil), false))
		if n := len(list(t, s, quarantine.Filter{Status: quarantine.Parked})); n != 1 {
			t.Errorf("%d entries are parked, want 1", n)
		}
		replay(t, s, everything)
		first := w.all()[0].Message
		parked(deliver(message2("a", 1, nil), false)) // not the replay
		outcome = bus.Permanent(errBroken)
		if err := deliver(&first, true); !bus.IsSetAside(err) || errors.Is(err, middleware.ErrParked) {
			t.Fatal(err)
		}
		outcome = nil
		parked(deliver(&first, false)) // an older replay
		replay(t, s, everything)
		again := w.all()[0].Message
		parked(deliver(&first, false))
		outcome = bus.RetryAfter(time.Hour, errBroken)
		if err := deliver(&again, true); bus.IsSetAside(err) || err == nil {
			t.Fatal(err)
		}
		quarantine.Age(t, f.db, time.Hour-time.Minute)
		quarantine.Resume(t, s)
		if sent := w.all(); len(sent) != 0 {
			t.Errorf("published %v, although it comes again by itself", ids(sent))
		}
		outcome = nil
		if err := deliver(&again, true); err != nil {
			t.Fatal(err)
		}
		next := w.all()
		if !slices.Equal(ids(next), []string{"a2"}) {
			t.Fatalf("published %v, want a2", ids(next))
		}
		if err := deliver(&again, false); err != nil { // its acknowledgement was lost
			t.Error(err)
		}
		parked(deliver(message2("a", 2, nil), false))
		parked(deliver(message2("a", 3, nil), false))
		quarantine.Age(t, f.db, time.Hour)
		quarantine.Resume(t, s) // a2 is lost, as far as anybody knows
		if more := w.all(); len(more) != 1 || more[0].Metadata[quarantine.MetadataReplay] != next[0].Metadata[quarantine.MetadataReplay] {
			t.Fatalf("published %v, want a2 once more", more)
		}
		if err := deliver(&next[0].Message, true); err != nil {
			t.Fatal(err)
		}
		if err := deliver(&next[0].Message, false); err != nil {
			t.Error(err)
		}
		if err := deliver(&w.all()[0].Message, true); err != nil {
			t.Error(err)
		}
		if err := deliver(message2("a", 4, nil), true); err != nil {
			t.Error(err)
		}
		check(t, s)
	})
}

func TestParkKeysNeedsATransport(t *testing.T) {
	t.Parallel()
	_, err := quarantine.Open(t.Context(), "sqlite::memory:", quarantine.Config{ParkKeys: []string{"billing"}})
	if !errors.Is(err, bus.ErrInvalid) || !strings.Contains(err.Error(), "Transport") {
		t.Errorf("got %v", err)
	}
}
