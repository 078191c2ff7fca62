package memory_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"pgregory.net/rapid"
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

// model is what a queue should do, for any sequence of calls.
func TestQueueIsLikeItsModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		tr := memory.New(memory.Config{})
		defer tr.Close()
		subscribe := func(prefetch int) transport.Subscription {
			sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "g", Prefetch: prefetch})
			if err != nil {
				rt.Fatal(err)
			}
			return sub
		}
		prefetch := rapid.IntRange(1, 100).Draw(rt, "prefetch")
		sub := subscribe(prefetch)
		var queued []int                // what is to come, in order
		attempts := map[int]int{}       // deliveries that counted
		var flight []transport.Delivery // unsettled
		numbers := map[string]int{}     // by ID
		next := 0
		check := func(ds []transport.Delivery) {
			for _, d := range ds {
				n := numbers[d.ID]
				if len(queued) == 0 || queued[0] != n {
					rt.Fatalf("message %d came, want the first of %v", n, queued)
				}
				queued = queued[1:]
				if d.Attempt != attempts[n]+1 {
					rt.Fatalf("message %d came with attempt %d, want %d", n, d.Attempt, attempts[n]+1)
				}
				flight = append(flight, d)
			}
		}
		back := func(d transport.Delivery, counts bool) {
			n := numbers[d.ID]
			if counts {
				attempts[n]++
			}
			i, _ := slices.BinarySearch(queued, n)
			queued = slices.Insert(queued, i, n)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"publish": func(rt *rapid.T) {
				msgs := batch(fmt.Sprint("m", next), rapid.IntRange(1, 150).Draw(rt, "n"))
				for i := range msgs {
					numbers[msgs[i].ID] = next
					queued = append(queued, next)
					next++
				}
				ctx := context.WithValue(t.Context(), transport.HandlerKey{}, true)
				if err := tr.Publish(ctx, topic, msgs); err != nil {
					rt.Fatal(err)
				}
			},
			"receive": func(rt *rapid.T) {
				if len(queued) == 0 || len(flight) >= prefetch {
					rt.Skip()
				}
				ds, err := sub.Receive(t.Context(), rapid.IntRange(1, 200).Draw(rt, "max"))
				if err != nil {
					rt.Fatal(err)
				}
				if check(ds); len(flight) > prefetch {
					rt.Fatalf("%d in flight, prefetch is %d", len(flight), prefetch)
				}
			},
			"settle": func(rt *rapid.T) {
				n := rapid.IntRange(0, len(flight)).Draw(rt, "n")
				rand.Shuffle(len(flight), func(i, j int) { flight[i], flight[j] = flight[j], flight[i] })
				var settlements []transport.Settlement
				for _, d := range flight[:n] {
					outcome := rapid.SampledFrom([]transport.Outcome{transport.Ack, transport.Ack, transport.Requeue, transport.Release}).Draw(rt, "outcome")
					settlements = append(settlements, transport.Settlement{Tag: d.Tag, Outcome: outcome})
					if outcome != transport.Ack {
						back(d, outcome == transport.Requeue)
					}
				}
				flight = slices.Clone(flight[n:])
				if err := sub.Settle(t.Context(), settlements); err != nil {
					rt.Fatal(err)
				}
			},
			"reopen": func(rt *rapid.T) {
				if err := sub.Close(); err != nil {
					rt.Fatal(err)
				}
				for _, d := range flight {
					back(d, false)
				}
				flight = nil
				prefetch = rapid.IntRange(1, 100).Draw(rt, "prefetch")
				sub = subscribe(prefetch)
			},
			"": func(rt *rapid.T) {
				if got, want := tr.Pending(), len(queued)+len(flight); got != want {
					rt.Fatalf("Pending is %d, want %d", got, want)
				}
			},
		})
	})
}
