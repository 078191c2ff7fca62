package bus_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// An event by reference gets its envelope when somebody asks: all groups, and all deliveries, must see the same one.
func TestEnvelopeOfAReferenceIsOneForAll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		seen := map[*transport.Message]int{}
		tr := memory.New(memory.Config{Share: true})
		b, err := bus.New(bus.Config{Transport: tr})
		if err != nil {
			t.Fatal(err)
		}
		for _, group := range []string{"a", "b", "c"} {
			bus.Handle(b, group, func(ctx context.Context, e placed) error {
				d, _ := bus.DeliveryFrom(ctx)
				var both sync.WaitGroup
				for range 2 {
					both.Go(func() {
						m := d.Message()
						mu.Lock()
						seen[m]++
						mu.Unlock()
					})
				}
				both.Wait()
				if d.Attempt == 1 {
					return errors.New("again")
				}
				return nil
			})
		}
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		published := time.Now()
		if err := b.Publish(t.Context(), placed{Order: "1"}); err != nil {
			t.Fatal(err)
		}
		if err := tr.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(seen) != 1 {
			t.Errorf("%d envelopes were made of one event", len(seen))
		}
		for m, n := range seen {
			if n != 12 { // three groups, two deliveries, two goroutines
				t.Errorf("the envelope was seen %d times", n)
			}
			if m.Name != "orders.placed" || m.Version != 1 || m.CorrelationID != m.ID || !m.Time.Equal(published) {
				t.Errorf("the envelope is %+v", *m)
			}
			if len(m.ID) != 36 || m.ID[14] != '7' {
				t.Errorf("its id is %q, and not a UUIDv7", m.ID)
			}
		}
		if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A subscription that did not ask for Lazy has a message in each delivery, also if a bus published it by reference.
func TestReferenceForAForeignSubscription(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{Share: true})
	b, err := bus.New(bus.Config{Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "orders", Group: "foreign"})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), placed{Order: "1"}); err != nil {
		t.Fatal(err)
	}
	var id string
	for attempt := 1; attempt <= 2; attempt++ {
		got, err := sub.Receive(t.Context(), 1)
		if err != nil {
			t.Fatal(err)
		}
		d := got[0]
		if d.Lazy != nil || d.Message == nil || d.Value != any(placed{Order: "1"}) || d.Attempt != attempt {
			t.Fatalf("delivery %d is %+v", attempt, d)
		}
		if id != "" && d.ID != id {
			t.Errorf("the id was %q and is %q", id, d.ID)
		}
		id = d.ID
		if err := sub.Settle(t.Context(), []transport.Settlement{{Tag: d.Tag, Outcome: transport.Requeue}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
		t.Error(err)
	}
}

// stranger is a transport.Lazy that no bus has made.
type stranger struct{ message transport.Message }

func (s *stranger) Message() *transport.Message { return &s.message }

func TestLazyOfAForeignPublisher(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{Share: true})
	got := make(chan placed, 2)
	run(t, bus.Config{Transport: tr}, func(b *bus.Bus) {
		bus.Handle(b, "g", func(_ context.Context, e placed) error {
			got <- e
			if len(got) == 1 {
				return bus.RetryAfter(0, errors.New("again"))
			}
			return nil
		})
	})
	want := placed{Order: "1"}
	if err := tr.PublishLazy(t.Context(), "orders", &stranger{transport.Message{ID: "1", Name: "orders.placed", Value: want}}); err != nil {
		t.Fatal(err)
	}
	if err := tr.WaitIdle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(got) != 2 || <-got != want || <-got != want {
		t.Error("the event did not come twice as it was")
	}
}
