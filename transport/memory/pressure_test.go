package memory_test

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestPublishWaitsWhenFull(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 10})
		sub := join(t, tr, "billing")
		publish(t, tr, batch("a", 9)...)
		publish(t, tr, batch("b", 100)...) // room for one is room for the batch

		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := tr.Publish(ctx, topic, batch("late", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Publish to a full queue returned %v, want the error of its context", err)
		}
		cancelled, cancel := context.WithCancel(t.Context())
		cancel()
		if err := tr.Publish(cancelled, topic, batch("late", 1)); !errors.Is(err, context.Canceled) {
			t.Fatalf("Publish to a full queue returned %v, want the error of its context", err)
		}

		published := make(chan error, 1)
		go func() { published <- tr.Publish(t.Context(), topic, batch("c", 1)) }()
		synctest.Wait()
		drain(t, sub, 103) // 6 are left: more than half
		synctest.Wait()
		select {
		case err := <-published:
			t.Fatalf("Publish returned (%v) before half of the queue was free", err)
		default:
		}
		drain(t, sub, 1)
		synctest.Wait()
		select {
		case err := <-published:
			if err != nil {
				t.Fatal(err)
			}
		default:
			t.Fatal("Publish still waits, although half of the queue is free")
		}
		ds := receive(t, sub, 6)
		if last := ds[5].ID; last != "c-0" {
			t.Errorf("the last message is %s; messages whose Publish failed must not come", last)
		}
		nothing(t, sub)
	})
}

// More publishers wait than there is room for when half of the queue is free. The last of them must not be forgotten.
func TestAllWaitingPublishersAreWoken(t *testing.T) {
	t.Parallel()
	for _, capacity := range []int{1, 2, 3, 8} {
		synctest.Test(t, func(t *testing.T) {
			tr := open(t, memory.Config{Capacity: capacity})
			sub := join(t, tr, "billing")
			publish(t, tr, batch("first", capacity)...)
			const publishers = 20
			published := make(chan error, publishers)
			for range publishers {
				go func() { published <- tr.Publish(t.Context(), topic, batch("more", 1)) }()
			}
			synctest.Wait()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for n := 0; n < capacity+publishers; {
				ds, err := sub.Receive(ctx, 100)
				if err != nil {
					t.Fatalf("capacity %d: %v after %d of %d messages", capacity, err, n, capacity+publishers)
				}
				settle(t, sub, transport.Ack, ds...)
				n += len(ds)
			}
			for range publishers {
				if err := <-published; err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// A publisher that was woken and whose context ends at the same time passes its place on.
func TestAPublisherThatGivesUpPassesItsPlaceOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 1})
		sub := join(t, tr, "billing")
		for range 500 {
			publish(t, tr, batch("first", 1)...)
			ctx, cancel := context.WithCancel(t.Context())
			impatient, patient := make(chan error, 1), make(chan error, 1)
			go func() { impatient <- tr.Publish(ctx, topic, batch("impatient", 1)) }()
			synctest.Wait()
			go func() { patient <- tr.Publish(t.Context(), topic, batch("patient", 1)) }()
			synctest.Wait()
			cancel()
			drain(t, sub, 1) // there is room for one
			if err := <-impatient; err == nil {
				drain(t, sub, 1)
			}
			if err := <-patient; err != nil {
				t.Fatal(err)
			}
			drain(t, sub, 1)
		}
	})
}

func TestPublishWithinAHandlerNeverWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 1})
		subs := []transport.Subscription{join(t, tr, "billing"), join(t, tr, "shipping")}
		publish(t, tr, batch("first", 1)...)
		ctx := context.WithValue(t.Context(), transport.HandlerKey{}, true)
		for range 100 {
			if err := tr.Publish(ctx, topic, batch("more", 1)); err != nil {
				t.Fatal(err)
			}
		}
		outside, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := tr.Publish(outside, topic, batch("late", 1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish outside of the handler returned %v; the queue is more than full", err)
		}
		for _, sub := range subs {
			drain(t, sub, 101)
		}
	})
}

// A batch goes to all groups or, when the context ends before all have room, to none; and leaves no room taken.
func TestReservationIsAllOrNone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 4})
		quick, slow := join(t, tr, "quick"), join(t, tr, "slow")
		publish(t, tr, batch("first", 4)...)
		drain(t, quick, 4)
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			if err := tr.Publish(ctx, topic, batch("never", 3)); !errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("Publish returned %v although a group has no room", err)
			}
			cancel()
		}
		nothing(t, quick)
		if pending := tr.Pending(); pending != 4 {
			t.Errorf("Pending is %d, want 4: what was not published has left something behind", pending)
		}
		drain(t, slow, 4)
		publish(t, tr, batch("second", 4)...) // both have room for all of it
		drain(t, quick, 4)
		drain(t, slow, 4)
		nothing(t, slow)
	})
}

// What goes to another group, or is for later, takes no room.
func TestTargetsAndDelaysLeaveTheirRoom(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 2})
		aimed, other := join(t, tr, "aimed"), join(t, tr, "other")
		for range 10 {
			m := batch("aimed", 1)
			m[0].TargetGroup = "aimed"
			publish(t, tr, m...)
			drain(t, aimed, 1)
			later := batch("later", 1)
			later[0].NotBefore = time.Now().Add(time.Hour)
			publish(t, tr, later...)
		}
		drain(t, aimed, 10)
		drain(t, other, 10)
	})
}

func TestCloseEndsWaitingPublishers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 1})
		join(t, tr, "billing")
		join(t, tr, "shipping")
		publish(t, tr, batch("first", 1)...)
		published := make(chan error, 5)
		for range cap(published) {
			go func() { published <- tr.Publish(t.Context(), topic, batch("more", 1)) }()
		}
		synctest.Wait()
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		for range cap(published) {
			if err := <-published; !errors.Is(err, transport.ErrClosed) {
				t.Errorf("a waiting Publish returned %v, want ErrClosed", err)
			}
		}
	})
}

func TestABurstGivesItsMemoryBack(t *testing.T) {
	// Not parallel: it measures the heap.
	tr := open(t, memory.Config{})
	sub := join(t, tr, "billing")
	before := heap()
	ctx := context.WithValue(t.Context(), transport.HandlerKey{}, true)
	const n = 200_000
	for i := 0; i < n; i += 1000 {
		msgs := batch("burst", 1000)
		if i >= n/2 {
			for j := range msgs {
				msgs[j].NotBefore = time.Now().Add(time.Millisecond)
			}
		}
		if err := tr.Publish(ctx, topic, msgs); err != nil {
			t.Fatal(err)
		}
	}
	full := heap()
	drain(t, sub, n)
	if after := heap(); after > before+(full-before)/20 {
		t.Errorf("the heap grew from %d to %d KiB, and shrank to %d only", before>>10, full>>10, after>>10)
	}
	runtime.KeepAlive(sub)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// TestCloseWhilePublishWaits closes the transport while a Publish has room in one queue and waits for another.
func TestCloseWhilePublishWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 1})
		join(t, tr, "billing")
		join(t, tr, "mail")
		full := batch("full", 1)
		full[0].TargetGroup = "mail"
		publish(t, tr, full...)
		published := make(chan error, 1)
		go func() { published <- tr.Publish(t.Context(), topic, batch("waits", 3)) }()
		synctest.Wait()
		if n := tr.Pending(); n != 4 {
			t.Fatalf("%d messages are pending, want one in a queue and room for three in the other", n)
		}
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-published; !errors.Is(err, transport.ErrClosed) {
			t.Errorf("Publish returned %v", err)
		}
		if n := tr.Pending(); n != 0 {
			t.Errorf("%d messages are pending after Close", n)
		}
	})
}
