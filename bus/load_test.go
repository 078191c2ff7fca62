package bus_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport/memory"
)

// TestOrderPerKeyUnderLoad is in real time, for the interleavings that only real goroutines have.
func TestOrderPerKeyUnderLoad(t *testing.T) {
	t.Parallel()
	const keys, each = 20, 200
	w := newOrderWatch(uint64(time.Now().UnixNano()), 1)
	var left sync.WaitGroup
	left.Add(keys * each)
	b := run(t, bus.Config{
		Transport: memory.New(memory.Config{Capacity: 100}),
		Groups:    group("g", bus.GroupConfig{Workers: 8, MinBackoff: time.Microsecond, MaxBackoff: time.Millisecond}),
	}, func(b *bus.Bus) {
		bus.Handle(b, "g", func(_ context.Context, e placed) error {
			err := w.try(e, func() {
				for range rand.IntN(50) {
					runtime.Gosched()
				}
			})
			if err == nil {
				left.Done()
			}
			return err
		})
	})
	for k := range keys {
		go func() {
			for n := 1; n <= each; n++ {
				if err := b.Publish(context.Background(), placed{Order: fmt.Sprint(k), N: n}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	left.Wait()
	if len(w.wrong) > 0 {
		t.Errorf("%d of %d wrong: %v", len(w.wrong), keys*each, w.wrong[:min(5, len(w.wrong))])
	}
}

// TestWorkersRunAtOnce: as many as there are, and not one more, also over several topics.
func TestWorkersRunAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var running, most atomic.Int64
		handle := func() error {
			n := running.Add(1)
			defer running.Add(-1)
			for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
			}
			time.Sleep(time.Second)
			return nil
		}
		b := run(t, bus.Config{Groups: group("g", bus.GroupConfig{Workers: 4})}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(context.Context, paid) error { return handle() })
			bus.Handle(b, "g", func(context.Context, shipped) error { return handle() })
		})
		for n := range 20 {
			publish(t, b, paid{n}, shipped{n})
		}
		for b.Stats()["g"].Handled < 40 {
			time.Sleep(10 * time.Millisecond)
		}
		expect(t, "at once", most.Load(), 4)
		if took := time.Since(began); took > 11*time.Second {
			t.Errorf("40 seconds of work by 4 workers took %v", took)
		}
	})
}

// TestOneWorkerKeepsTheOrder of all messages of a topic, with and without keys.
func TestOneWorkerKeepsTheOrder(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var seen record[int]
		b := run(t, bus.Config{Groups: group("g", bus.GroupConfig{Workers: 1})}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error { seen.add(e.N); return nil })
			bus.Handle(b, "g", func(_ context.Context, e paid) error { seen.add(e.N); return nil })
		})
		for n := 0; n < 1000; n += 2 {
			publish(t, b, placed{fmt.Sprint(n % 3), n}, paid{n + 1})
		}
		synctest.Wait()
		for i, n := range seen.all() {
			if i != n {
				t.Fatalf("%d came as number %d", n, i)
			}
		}
		expect(t, "handled", len(seen.all()), 1000)
	})
}

// TestSlowConsumerHoldsThePublisherBack: what is in memory is bounded by the queue and the prefetch.
func TestSlowConsumerHoldsThePublisherBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const capacity, prefetch, messages = 50, 20, 2000
		tr := memory.New(memory.Config{Capacity: capacity})
		b := run(t, bus.Config{
			Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 1, Prefetch: prefetch}),
		}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(context.Context, paid) error { time.Sleep(100 * time.Millisecond); return nil })
		})
		most := 0
		for n := range messages {
			publish(t, b, paid{n})
			most = max(most, tr.Pending())
		}
		if most > capacity+prefetch {
			t.Errorf("%d messages were pending, want at most %d", most, capacity+prefetch)
		}
		expect(t, "in flight, at most", b.Stats()["g"].InFlight <= prefetch, true)
		time.Sleep(time.Hour)
		expect(t, "handled", b.Stats()["g"].Handled, messages)
	})
}

// TestAllocationsByReference is not parallel: it counts the allocations of the process.
func TestAllocationsByReference(t *testing.T) {
	if raceEnabled() {
		t.Skip("the race detector allocates")
	}
	handled := make(chan struct{}, 1)
	b := run(t, bus.Config{Transport: memory.New(memory.Config{Share: true})}, func(b *bus.Bus) {
		bus.Handle(b, "g", func(_ context.Context, e *byValue) error {
			if e.N == 0 {
				handled <- struct{}{}
			}
			return nil
		})
	})
	ctx := context.Background()
	const batch = 1000
	event, last := &byValue{1}, &byValue{0}
	perBatch := testing.AllocsPerRun(20, func() {
		for range batch - 1 {
			_ = b.Publish(ctx, event)
		}
		_ = b.Publish(ctx, last)
		<-handled
	})
	if per := perBatch / batch; per > 3 {
		t.Errorf("%.2f allocations per message, want at most 3", per)
	} else {
		t.Logf("%.2f allocations per message", per)
	}
}

// raceEnabled reports whether the race detector runs: it makes sync.Pool forget at random.
func raceEnabled() bool {
	var p sync.Pool
	for range 100 {
		p.Put(new(int))
		if p.Get() == nil {
			return true
		}
	}
	return false
}
