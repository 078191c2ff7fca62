package memory_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"pgregory.net/rapid"
)

// Any sequence of calls does what it does to a model of the queue.
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
