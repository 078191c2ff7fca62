package quarantine_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
)

func TestAMessageIsKeptAsItCame(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		s := f.store(quarantine.Config{})
		m := message("m1")
		m.Payload = []byte("not JSON\x00\xff\x1b[31m")
		m.TargetGroup, m.NotBefore, m.Attempts = "billing", time.Unix(1_700_000_001, 0).UTC(), 4
		cause := fmt.Errorf("charge: %w", bus.Permanent(fmt.Errorf("bank\x1b[2J\x07 %q: %w", "o-17", errBroken)))
		before := time.Now().Truncate(time.Millisecond)
		put(t, s, bus.NewDelivery(m, "orders", "billing", 3), cause)
		e := one(t, s, quarantine.Filter{})
		r, err := s.Show(t.Context(), e.ID)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r.Message, *m) {
			t.Errorf("got the message %+v, want %+v", r.Message, *m)
		}
		want := []string{cause.Error(), "bank\x1b[2J\x07 \"o-17\": the bank is closed", "the bank is closed"}
		if !reflect.DeepEqual(r.Errors, want) {
			t.Errorf("got the errors %q, want %q", r.Errors, want)
		}
		if e.Error != cause.Error() || e.Group != "billing" || e.Topic != "orders" || e.Event != "orders.placed" ||
			e.MessageID != "m1" || e.Key != "k-m1" || e.Attempts != 3 || e.Replays != 0 || e.Edited || e.Status != quarantine.Waiting {
			t.Errorf("got %+v", e)
		}
		if e.First.Before(before) || e.Last != e.First || e.First.After(time.Now()) {
			t.Errorf("times %v and %v, put after %v", e.First, e.Last, before)
		}
		if !reflect.DeepEqual(r.Entry, e) || r.Stack != "" || r.Replacement != nil || len(r.History) != 1 ||
			r.History[0] != (quarantine.Failure{Time: e.First, Attempt: 3, Error: cause.Error()}) {
			t.Errorf("got %+v", r)
		}
		check(t, s)
		if _, err := s.Show(t.Context(), e.ID+1); !errors.Is(err, quarantine.ErrNotFound) {
			t.Errorf("got %v, want ErrNotFound", err)
		}
	})
}

func TestAPanicIsKeptWithItsStackApart(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		s := f.store(quarantine.Config{})
		d := delivery("m1")
		err := middleware.Recover()(func(context.Context, *bus.Delivery) error { panic("lost my keys") })(t.Context(), d)
		put(t, s, d, fmt.Errorf("try 3: %w", err))
		r, err := s.Show(t.Context(), one(t, s, quarantine.Filter{}).ID)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(r.Stack, "put_test.go") || len(r.Errors) != 2 || r.Errors[1] != "middleware: handler panicked: lost my keys" {
			t.Errorf("got the errors %q and the stack\n%s", r.Errors, r.Stack)
		}
	})
}

func TestTheSameMessageIsOneEntry(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		s := f.store(quarantine.Config{})
		put(t, s, delivery("m1"), errBroken)
		first := one(t, s, quarantine.Filter{})
		put(t, s, delivery("m1"), errors.New("now the bank is on fire"))
		lost := delivery("m1")
		put(t, s, lost, fmt.Errorf("%w (delivery 4)", middleware.ErrAttempts))
		e := one(t, s, quarantine.Filter{})
		if e.ID != first.ID || e.Error != "now the bank is on fire" || e.Fingerprint == first.Fingerprint || e.Attempts != 5 {
			t.Errorf("got %+v, after %+v", e, first)
		}
		if r, err := s.Show(t.Context(), e.ID); err != nil || len(r.History) != 3 {
			t.Errorf("got %+v %v", r, err)
		}
		check(t, s)

		// Another group, another topic and another id are others.
		for _, d := range []*bus.Delivery{
			bus.NewDelivery(message("m1"), "orders", "shipping", 1), bus.NewDelivery(message("m1"), "orders2", "billing", 1), delivery("m2"),
		} {
			put(t, s, d, errBroken)
		}
		if n := count(t, s, quarantine.Filter{}); n != 4 {
			t.Errorf("there are %d entries, want 4", n)
		}
		if got := list(t, s, quarantine.Filter{MessageID: "m1"}); len(got) != 3 {
			t.Errorf("got %d entries of m1, want 3", len(got))
		}
		check(t, s)
	})
}

func TestALongHistoryKeepsItsEnds(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		s := f.store(quarantine.Config{})
		for i := range 60 {
			put(t, s, delivery("m1"), fmt.Errorf("failure %d", i))
		}
		r, err := s.Show(t.Context(), one(t, s, quarantine.Filter{}).ID)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(r.History); n != 50 || r.Omitted != 10 || r.History[0].Error != "failure 0" || r.History[n-1].Error != "failure 59" {
			t.Errorf("got %d failures and %d omitted: %+v", n, r.Omitted, r.History)
		}
	})
}

func TestManyAtOnceFromSeveralInstances(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		instances := []*quarantine.Store{f.store(quarantine.Config{}), newStore(t, f.open(), quarantine.Config{})}
		const messages, kinds = 300, 7
		var wg sync.WaitGroup
		for _, s := range instances {
			for worker := range 8 {
				wg.Go(func() {
					for i := worker; i < messages; i += 8 {
						// Each message is put by both instances, and with a few of the same fingerprint.
						if err := s.Put(t.Context(), delivery(fmt.Sprint("m", i)), errors.New("kind "+string(rune('a'+i%kinds)))); err != nil {
							t.Error(err)
						}
					}
				})
			}
		}
		wg.Wait()
		if got := list(t, instances[0], quarantine.Filter{}); len(got) != messages {
			t.Errorf("got %d entries, want %d", len(got), messages)
		}
		check(t, instances[0])
	})
}

// TestOneThatTheDatabaseRefusesDoesNotHoldUpOthers puts many messages at once, one of which is larger than the whole
// database may be.
func TestOneThatTheDatabaseRefusesDoesNotHoldUpOthers(t *testing.T) {
	t.Parallel()
	s, err := quarantine.Open(t.Context(), "sqlite:"+t.TempDir()+"/x.db?synchronous=off&max_page_count=400",
		quarantine.Config{Logger: quiet, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			d := delivery(fmt.Sprint("m", i))
			if i == 7 {
				m := message("large")
				m.Payload = bytes.Repeat([]byte("x"), 3<<20)
				d = bus.NewDelivery(m, "orders", "billing", 1)
			}
			if err := s.Put(t.Context(), d, errBroken); (err != nil) != (i == 7) {
				t.Errorf("message %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	if n := count(t, s, quarantine.Filter{}); n != 39 {
		t.Errorf("there are %d entries, want 39", n)
	}
}

func TestPutEndsWithItsContext(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		s := f.store(quarantine.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.Put(ctx, delivery("m1"), errBroken); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that of the context", err)
		}
		put(t, s, delivery("m2"), errBroken)
		one(t, s, quarantine.Filter{})
	})
}

type byReference struct{ N int }

func (byReference) EventName() string { return "orders.counted" }

func TestWhatTravelsByReferenceIsEncoded(t *testing.T) {
	t.Parallel()
	s, err := quarantine.Open(t.Context(), "sqlite::memory:", quarantine.Config{Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	put(t, s, bus.NewDelivery(&transport.Message{ID: "m1", Name: "orders.counted", Value: byReference{7}}, "orders", "billing", 1), errBroken)
	r, err := s.Show(t.Context(), one(t, s, quarantine.Filter{}).ID)
	if err != nil || string(r.Message.Payload) != `{"N":7}` || r.Message.ContentType != "application/json" {
		t.Errorf("got %+v %v", r, err)
	}
}
