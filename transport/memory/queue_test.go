package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{})
		sub := join(t, tr, "billing")
		begin := time.Now()
		msgs := batch("m", 6)
		for i, d := range []time.Duration{3 * time.Hour, time.Hour, 0, -time.Hour, time.Hour, 2*time.Hour + time.Nanosecond} {
			if d != 0 {
				msgs[i].NotBefore = begin.Add(d)
			}
		}
		publish(t, tr, msgs...)
		for _, want := range []struct {
			id    string
			after time.Duration
		}{
			{"m-2", 0}, {"m-3", 0}, {"m-1", time.Hour}, {"m-4", time.Hour}, {"m-5", 2*time.Hour + time.Nanosecond}, {"m-0", 3 * time.Hour},
		} {
			d := receive(t, sub, 1)[0]
			if d.ID != want.id || time.Since(begin) != want.after {
				t.Errorf("%s came after %s, want %s after %s", d.ID, time.Since(begin), want.id, want.after)
			}
			settle(t, sub, transport.Ack, d)
		}
		later := batch("later", 1)
		later[0].NotBefore = time.Now().Add(time.Hour)
		publish(t, tr, later...)
		earlier := batch("earlier", 1)
		earlier[0].NotBefore = time.Now().Add(time.Minute)
		publish(t, tr, earlier...)
		drain(t, sub, 1)
		if waited := time.Since(begin); waited != 3*time.Hour+time.Minute {
			t.Errorf("a message for an earlier time, published later, came after %s", waited)
		}
	})
}

// A transport that is closed with messages for later leaves no timer, and does not touch what it has given up.
func TestCloseForgetsDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		join(t, tr, "billing")
		later := batch("later", 1)
		later[0].NotBefore = time.Now().Add(time.Second)
		publish(t, tr, later...)
		if err := tr.Close(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute) // of the bubble
		if pending := tr.Pending(); pending != 0 {
			t.Errorf("Pending is %d after Close", pending)
		}
	})
}

func TestTakeOver(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{})
		subs := []transport.Subscription{join(t, tr, "billing"), join(t, tr, "billing"), join(t, tr, "billing")}
		publish(t, tr, batch("m", 5)...)
		ds := receive(t, subs[0], 3)
		settle(t, subs[0], transport.Ack, ds[1])
		nothing(t, subs[1])
		if err := subs[1].Close(); err != nil { // one that stands by leaves: nothing changes
			t.Fatal(err)
		}
		nothing(t, subs[2])
		next := make(chan []transport.Delivery, 1)
		go func() { next <- receive(t, subs[2], 4) }()
		synctest.Wait()
		if err := subs[0].Close(); err != nil {
			t.Fatal(err)
		}
		var ids []string
		for _, d := range <-next {
			ids = append(ids, fmt.Sprint(d.ID, "/", d.Attempt))
		}
		if want := []string{"m-0/1", "m-2/1", "m-3/1", "m-4/1"}; !slices.Equal(ids, want) {
			t.Errorf("the one that took over got %v, want %v", ids, want)
		}
	})
}

// A delivery that is held while thousands of later ones are settled can be settled still.
func TestStragglers(t *testing.T) {
	t.Parallel()
	tr := open(t, memory.Config{Capacity: 100_000})
	sub := join(t, tr, "billing")
	publish(t, tr, batch("held", 3)...)
	held := receive(t, sub, 3)
	for range 3 {
		publish(t, tr, batch("m", 5000)...)
		drain(t, sub, 5000)
	}
	if pending := tr.Pending(); pending != 3 {
		t.Errorf("Pending is %d, want 3", pending)
	}
	settle(t, sub, transport.Ack, held[0])
	settle(t, sub, transport.Requeue, held[2], held[1], held[0])
	for i, d := range receive(t, sub, 2) {
		if want := held[i+1].ID; d.ID != want || d.Attempt != 2 {
			t.Errorf("%s came with attempt %d, want %s with attempt 2", d.ID, d.Attempt, want)
		}
		settle(t, sub, transport.Ack, d)
	}
	if pending := tr.Pending(); pending != 0 {
		t.Errorf("Pending is %d, want 0", pending)
	}
}

func TestWaitIdle(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		prepare func(m *transport.Message)
		settle  func(t *testing.T, tr *memory.Transport, first, second transport.Subscription)
	}{
		"acknowledged": {
			func(*transport.Message) {},
			func(t *testing.T, _ *memory.Transport, first, second transport.Subscription) {
				drain(t, first, 1)
				drain(t, second, 1)
			},
		},
		"later": {
			func(m *transport.Message) { m.NotBefore = time.Now().Add(time.Hour) },
			func(t *testing.T, _ *memory.Transport, first, second transport.Subscription) {
				drain(t, first, 1)
				drain(t, second, 1)
			},
		},
		"given back": {
			func(*transport.Message) {},
			func(t *testing.T, _ *memory.Transport, first, second transport.Subscription) {
				drain(t, first, 1)
				settle(t, second, transport.Requeue, receive(t, second, 1)...)
				drain(t, second, 1)
			},
		},
		"closed": {
			func(*transport.Message) {},
			func(t *testing.T, tr *memory.Transport, _, _ transport.Subscription) {
				if err := tr.Close(); err != nil {
					t.Error(err)
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := open(t, memory.Config{})
				first, second := join(t, tr, "billing"), join(t, tr, "shipping")
				if err := tr.WaitIdle(t.Context()); err != nil {
					t.Fatalf("WaitIdle on an idle transport: %v", err)
				}
				msgs := batch("m", 1)
				test.prepare(&msgs[0])
				publish(t, tr, msgs...)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				if err := tr.WaitIdle(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Fatalf("WaitIdle with messages under way returned %v", err)
				}
				if pending := tr.Pending(); pending != 2 {
					t.Errorf("Pending is %d, want 2", pending)
				}
				idle := make(chan error, 2)
				for range 2 {
					go func() { idle <- tr.WaitIdle(t.Context()) }()
				}
				synctest.Wait()
				test.settle(t, tr, first, second)
				for range 2 {
					if err := <-idle; err != nil {
						t.Error(err)
					}
				}
				if pending := tr.Pending(); pending != 0 {
					t.Errorf("Pending is %d, want 0", pending)
				}
			})
		})
	}
}

// Room that is reserved counts as pending; who waits must hear when it is given up again.
func TestWaitIdleHearsOfReservationsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := open(t, memory.Config{Capacity: 1})
		first, second := join(t, tr, "billing"), join(t, tr, "shipping")
		for range 500 {
			publish(t, tr, batch("m", 1)...)
			drain(t, first, 1)
			published, idle := make(chan error, 1), make(chan error, 1)
			ctx, cancel := context.WithCancel(t.Context())
			go func() { published <- tr.Publish(ctx, topic, batch("more", 1)) }() // reserves in the first, waits for the second
			synctest.Wait()
			go func() { idle <- tr.WaitIdle(t.Context()) }()
			synctest.Wait()
			cancel()
			drain(t, second, 1)
			if err := <-published; err == nil {
				drain(t, first, 1)
				drain(t, second, 1)
			}
			if err := <-idle; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A message that nobody shall get is pending while it is on its way, and no longer.
func TestWaitIdleHearsOfMessagesForNobody(t *testing.T) {
	t.Parallel()
	tr := open(t, memory.Config{})
	join(t, tr, "billing")
	join(t, tr, "shipping")
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	wg.Go(func() {
		for range 2000 {
			m := batch("nobody", 1)
			m[0].TargetGroup = "nobody"
			if err := tr.Publish(ctx, topic, m); err != nil {
				t.Error(err)
			}
		}
	})
	for range 2000 {
		if err := tr.WaitIdle(ctx); err != nil {
			t.Fatalf("WaitIdle: %v, although nothing is under way: %d", err, tr.Pending())
		}
	}
}
