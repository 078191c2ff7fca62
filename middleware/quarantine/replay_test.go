package quarantine_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

func replay(t testing.TB, s *quarantine.Store, f quarantine.Filter) quarantine.Result {
	t.Helper()
	r, err := s.Replay(t.Context(), f, quarantine.ReplayOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

var everything = quarantine.Filter{All: true}

func TestReplayOneManyOrAllOfAFingerprint(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		for i := range 6 {
			m := message(fmt.Sprint("m", i))
			m.Attempts, m.NotBefore = 4, time.Unix(1_700_000_001, 0).UTC() // which a replay begins anew
			put(t, s, bus.NewDelivery(m, "orders", "billing", 3), errors.New([]string{"odd", "even"}[i%2]))
		}
		entries := list(t, s, quarantine.Filter{})
		slices.Reverse(entries) // in the order of failure
		replay(t, s, quarantine.Filter{IDs: []int64{entries[4].ID}})
		got := w.all()
		want := *message("m4")
		want.TargetGroup = "billing"
		if len(got) != 1 || got[0].topic != "orders" || got[0].Metadata[quarantine.MetadataReplay] == "" {
			t.Fatalf("got %+v, want m4", got)
		}
		delete(got[0].Metadata, quarantine.MetadataReplay)
		if !reflect.DeepEqual(got[0].Message, want) {
			t.Errorf("got %+v, want %+v", got[0].Message, want)
		}
		if r := replay(t, s, quarantine.Filter{Fingerprint: entries[1].Fingerprint}); r.Replayed != 3 {
			t.Errorf("got %+v, want 3 replayed", r)
		}
		if got := ids(w.all()); !slices.Equal(got, []string{"m1", "m3", "m5"}) {
			t.Errorf("got %v", got)
		}
		check(t, s)
		r, err := s.Replay(t.Context(), everything, quarantine.ReplayOptions{Limit: 1})
		if got := ids(w.all()); err != nil || r.Replayed != 1 || !slices.Equal(got, []string{"m0"}) {
			t.Errorf("got %v, %+v, %v, want m0", got, r, err)
		}
		replay(t, s, everything)
		if got := ids(w.all()); !slices.Equal(got, []string{"m2"}) {
			t.Errorf("got %v, want m2", got)
		}
		if r := replay(t, s, everything); r.Replayed != 0 || len(w.all()) != 0 {
			t.Errorf("got %+v, want that nothing is left", r)
		}
		if n := len(list(t, s, quarantine.Filter{Status: quarantine.Replayed})); n != 6 {
			t.Errorf("%d entries are replayed, want 6", n)
		}
		check(t, s)
	})
}

func TestAReplayThatFailsAgainIsTheSameEntry(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		put(t, s, delivery("m1"), errBroken)
		first := one(t, s, quarantine.Filter{})
		for n := 1; n <= 2; n++ {
			replay(t, s, everything)
			again := w.all()[0].Message
			put(t, s, bus.NewDelivery(&again, "orders", "billing", 2), fmt.Errorf("still: %w", errBroken))
			e := one(t, s, quarantine.Filter{})
			if e.ID != first.ID || e.Replays != n || e.Attempts != 3+2*n || e.First != first.First || e.Error != "still: the bank is closed" {
				t.Errorf("got %+v", e)
			}
			r, err := s.Show(t.Context(), e.ID)
			if err != nil || len(r.History) != n+1 || r.History[n].Replay != n || !reflect.DeepEqual(r.Message, *message("m1")) {
				t.Errorf("got %+v %v", r, err)
			}
		}
		check(t, s)
	})
}

// TestOneThatFailsBeforeTheReplayIsNoted has the message back in quarantine while Publish has not returned.
func TestOneThatFailsBeforeTheReplayIsNoted(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		put(t, s, delivery("m1"), errBroken)
		published := 0
		w.fail = func(_ string, msgs []transport.Message) error {
			published++
			put(t, s, bus.NewDelivery(&msgs[0], "orders", "billing", 1), errBroken)
			return nil
		}
		if r := replay(t, s, everything); published != 1 {
			t.Errorf("it was published %d times in one replay: %+v", published, r)
		}
		if e := one(t, s, quarantine.Filter{}); e.Replays != 1 {
			t.Errorf("got %+v, want that it waits", e)
		}
		check(t, s)
	})
}

func TestTwoOperatorsAtOnce(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		const messages = 1200
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		fill(t, s, messages)
		var wg sync.WaitGroup
		var mu sync.Mutex
		total := 0
		for range 3 {
			other := newStore(t, f.open(), quarantine.Config{Transport: w})
			wg.Go(func() {
				r, err := other.Replay(t.Context(), everything, quarantine.ReplayOptions{})
				mu.Lock()
				defer mu.Unlock()
				if total += r.Replayed; err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		// What one has locked the others pass over: together they may leave some, never take one twice.
		total += replay(t, s, everything).Replayed
		got := ids(w.all())
		slices.Sort(got)
		if len(got) != messages || len(slices.Compact(got)) != messages || total != messages {
			t.Errorf("%d messages were published, %d reported, want each of %d once", len(got), total, messages)
		}
		check(t, s)
	})
}

// fill puts messages m0 to m(n-1).
func fill(t testing.TB, s *quarantine.Store, n int) {
	t.Helper()
	var wg sync.WaitGroup
	for worker := range 50 {
		wg.Go(func() {
			for i := worker; i < n; i += 50 {
				if err := s.Put(t.Context(), delivery(fmt.Sprint("m", i)), errBroken); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestAnInterruptedReplayGoesOn(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		const messages = 700
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		fill(t, s, messages)
		ctx, cancel := context.WithCancel(t.Context())
		r, err := s.Replay(ctx, everything, quarantine.ReplayOptions{Progress: func(quarantine.Result) { cancel() }})
		if !errors.Is(err, context.Canceled) || r.Replayed == 0 || r.Replayed == messages {
			t.Fatalf("got %+v %v", r, err)
		}
		check(t, s)
		replay(t, s, everything)
		got := ids(w.all())
		slices.Sort(got)
		if len(got) != messages || len(slices.Compact(got)) != messages {
			t.Errorf("%d messages were published, want each of %d once", len(got), messages)
		}
	})
}

// TestACrashOfAReplay lets the process end between publishing and noting it: what was published comes again, with its ID.
func TestACrashOfAReplay(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		fill(t, s, 3)
		quarantine.CrashAt(s, "published")
		if _, err := s.Replay(t.Context(), everything, quarantine.ReplayOptions{}); !errors.Is(err, quarantine.ErrCrash) {
			t.Fatal(err)
		}
		first := ids(w.all())
		other := newStore(t, f.open(), quarantine.Config{Transport: w})
		if r := replay(t, other, everything); r.Replayed != 0 {
			t.Errorf("got %+v, although the other may be alive", r)
		}
		if n := len(list(t, other, quarantine.Filter{Status: quarantine.Replaying})); n != 3 {
			t.Errorf("%d are on their way, want 3", n)
		}
		quarantine.Age(t, f.db, quarantine.ClaimLease)
		if r := replay(t, other, everything); r.Replayed != 3 {
			t.Errorf("got %+v, want 3", r)
		}
		if again := ids(w.all()); len(first) != 3 || !slices.Equal(first, again) {
			t.Errorf("published %v and then %v, want the same", first, again)
		}
		check(t, other)

		// Without another replay it is Run that finds them.
		fill(t, other, 3)
		quarantine.CrashAt(other, "published")
		if _, err := other.Replay(t.Context(), everything, quarantine.ReplayOptions{}); !errors.Is(err, quarantine.ErrCrash) {
			t.Fatal(err)
		}
		quarantine.Age(t, f.db, quarantine.ClaimLease)
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = newStore(t, f.open(), quarantine.Config{Transport: w}).Run(ctx) })
		defer running.Wait()
		defer cancel()
		eventually(t, "that they wait again", func() bool { return len(list(t, other, quarantine.Filter{})) == 3 })
		check(t, other)
	})
}

// TestWhatWasPublishedIsNoted by a database that takes its time.
func TestWhatWasPublishedIsNoted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db, err := store.Open(t.Context(), "sqlite::memory:")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		s := newStore(t, db, quarantine.Config{Transport: newWire(t)})
		put(t, s, delivery("m1"), errBroken)
		quarantine.At(s, "published", func() {
			tx, err := db.SQL().Begin() // has the only connection
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(30*time.Second, func() { _ = tx.Rollback() })
		})
		if r := replay(t, s, everything); r.Replayed != 1 {
			t.Errorf("got %+v", r)
		}
	})
}

func TestWhatATransportRefusesWaitsAsBefore(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := newWire(t)
		s := f.store(quarantine.Config{Transport: w})
		fill(t, s, 3)
		down := errors.New("no route to the broker")
		w.fail = func(string, []transport.Message) error { return down }
		before := list(t, s, quarantine.Filter{})
		if r, err := s.Replay(t.Context(), everything, quarantine.ReplayOptions{}); !errors.Is(err, down) || r.Replayed != 0 {
			t.Errorf("got %+v %v, want that of the transport", r, err)
		}
		w.fail = func(_ string, msgs []transport.Message) error {
			errs := make([]error, len(msgs))
			for i := range msgs {
				if msgs[i].ID == "m1" {
					errs[i] = transport.ErrTooLarge
				}
			}
			return &transport.PublishError{Errs: errs}
		}
		r := replay(t, s, everything)
		if r.Replayed != 2 || r.Refused != 1 || len(r.Errors) != 1 || !errors.Is(r.Errors[0], transport.ErrTooLarge) {
			t.Errorf("got %+v", r)
		}
		e := one(t, s, quarantine.Filter{})
		i := slices.IndexFunc(before, func(e quarantine.Entry) bool { return e.MessageID == "m1" })
		e.Replays = 0
		if e != before[i] {
			t.Errorf("got %+v, want as before %+v", e, before[i])
		}
		check(t, s)
	})
}

func TestAReplayKeepsToItsRate(t *testing.T) {
	t.Parallel()
	w := newWire(t)
	s, err := quarantine.Open(t.Context(), "sqlite::memory:", quarantine.Config{Transport: w, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	fill(t, s, 40)
	began := time.Now()
	if _, err := s.Replay(t.Context(), everything, quarantine.ReplayOptions{Rate: 100}); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("40 messages took %v at 100 a second", took)
	}
}

// told is a transport that knows its groups.
type told struct {
	*wire
	groups []transport.GroupStatus
}

func (w told) Status(context.Context) ([]transport.GroupStatus, error) { return w.groups, nil }

func TestAGroupThatIsGone(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		w := told{newWire(t), []transport.GroupStatus{{Topic: "orders", Group: "billing"}}}
		s := f.store(quarantine.Config{Transport: w})
		put(t, s, delivery("m1"), errBroken)
		put(t, s, bus.NewDelivery(message("m2"), "orders", "shipping", 1), errBroken)
		r := replay(t, s, everything)
		if r.Replayed != 1 || r.Refused != 1 || !errors.Is(errors.Join(r.Errors...), quarantine.ErrNoGroup) {
			t.Errorf("got %+v", r)
		}
		if e := one(t, s, quarantine.Filter{}); e.MessageID != "m2" {
			t.Errorf("got %+v, want m2 to wait", e)
		}
	})
}

func TestReplayRefuses(t *testing.T) {
	t.Parallel()
	s, err := quarantine.Open(t.Context(), "sqlite::memory:", quarantine.Config{Transport: newWire(t)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Replay(t.Context(), quarantine.Filter{}, quarantine.ReplayOptions{}); err == nil {
		t.Error("an empty filter replays everything")
	}
	if _, err := s.Discard(t.Context(), quarantine.Filter{}); err == nil {
		t.Error("an empty filter discards everything")
	}
	if _, err := s.Replay(t.Context(), quarantine.Filter{All: true, Status: quarantine.Replayed}, quarantine.ReplayOptions{}); !errors.Is(err, quarantine.ErrStatus) {
		t.Errorf("got %v, want ErrStatus", err)
	}
}
