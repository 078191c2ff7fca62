package bus_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// orderWatch is a handler that fails sometimes and knows what must not happen: two messages of a key at once, or one
// before an earlier one of its key was handled.
type orderWatch struct {
	mu       sync.Mutex
	rng      *rand.Rand
	failures int // of 100 tries
	busy     map[string]bool
	last     map[string]int
	handled  int
	wrong    []string
}

func newOrderWatch(seed uint64, failures int) *orderWatch {
	return &orderWatch{
		rng: rand.New(rand.NewPCG(seed, 1)), failures: failures, busy: map[string]bool{}, last: map[string]int{},
	}
}

func (w *orderWatch) handle(_ context.Context, e placed) error {
	return w.try(e, func() {
		w.mu.Lock()
		pause := time.Duration(w.rng.IntN(5)) * time.Millisecond
		w.mu.Unlock()
		time.Sleep(pause)
	})
}

// try does work for e, or fails.
func (w *orderWatch) try(e placed, work func()) error {
	w.mu.Lock()
	if w.busy[e.Order] {
		w.wrong = append(w.wrong, fmt.Sprintf("two of key %s at once", e.Order))
	}
	if e.N != w.last[e.Order]+1 {
		w.wrong = append(w.wrong, fmt.Sprintf("key %s: %d after %d", e.Order, e.N, w.last[e.Order]))
	}
	w.busy[e.Order] = true
	fails := w.rng.IntN(100) < w.failures
	w.mu.Unlock()
	work()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.busy[e.Order] = false
	if fails {
		return errors.New("sometimes")
	}
	w.last[e.Order] = max(e.N, w.last[e.Order])
	w.handled++
	return nil
}

func TestOrderPerKeyWhateverIsUnderWay(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		var (
			seed     = rapid.Uint64().Draw(rt, "seed")
			workers  = rapid.IntRange(1, 8).Draw(rt, "workers")
			prefetch = rapid.IntRange(1, 40).Draw(rt, "prefetch")
			keys     = rapid.IntRange(1, 5).Draw(rt, "keys")
			failures = rapid.IntRange(0, 40).Draw(rt, "failures")
			transit  = rapid.IntRange(0, 20).Draw(rt, "transit")
			faults   = rapid.IntRange(0, 30).Draw(rt, "faults")
		)
		const messages = 40
		var w *orderWatch
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 2))
			way := upTo(rand.New(rand.NewPCG(seed, 3)), time.Duration(transit)*time.Millisecond)
			dice := upTo(rand.New(rand.NewPCG(seed, 4)), 99)
			fault := func() error {
				if int(dice()) < faults {
					return errors.New("broken pipe")
				}
				return nil
			}
			tr := &broker{ask: way, answer: way, send: way, confirm: way, receive: fault, lost: fault}
			tr.settle = func(context.Context, []transport.Settlement) error { return fault() }
			w = newOrderWatch(seed, failures)
			b := run(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{
				Workers: workers, Prefetch: prefetch, MinBackoff: time.Millisecond, MaxBackoff: 8 * time.Millisecond,
			})}, func(b *bus.Bus) { bus.Handle(b, "g", w.handle) })
			for n := 1; n <= messages; n++ {
				for k := range keys {
					publish(t, b, placed{Order: fmt.Sprint(k), N: n})
				}
				time.Sleep(time.Duration(rng.IntN(4)) * time.Millisecond)
			}
			for limit := time.Now().Add(time.Hour); len(tr.ackedIDs()) < messages*keys && time.Now().Before(limit); {
				time.Sleep(10 * time.Millisecond)
			}
		})
		if len(w.wrong) > 0 || w.handled < messages*keys {
			rt.Fatalf("handled %d of %d; wrong: %v", w.handled, messages*keys, w.wrong[:min(5, len(w.wrong))])
		}
	})
}

// TestOverlappingReceive forces the interleaving in which a later message of a key is in transit while an earlier one,
// which failed, goes back.
func TestOverlappingReceive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var answer atomic.Int64
		tr := &broker{answer: func() time.Duration { return time.Duration(answer.Load()) }}
		var seen record[string]
		b := run(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 4})}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				d, _ := bus.DeliveryFrom(ctx)
				seen.add(fmt.Sprintf("%d/%d", e.N, d.Attempt))
				if e.N == 1 && d.Attempt == 1 {
					return bus.RetryAfter(time.Second, errors.New("no"))
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2})
		time.Sleep(time.Second - time.Millisecond)
		answer.Store(int64(3 * time.Millisecond)) // 3 is in transit when 1 and 2 go back
		publish(t, b, placed{"k", 3})
		time.Sleep(2 * time.Millisecond)
		publish(t, b, placed{"k", 4})
		time.Sleep(time.Minute)
		expect(t, "handled", seen.all(), []string{"1/1", "1/2", "2/1", "3/1", "4/1"})
	})
}

func TestFailingKeyHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var seen record[string]
		b := run(t, bus.Config{Groups: group("g", bus.GroupConfig{Workers: 2, KeepOrder: true})}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				seen.add(fmt.Sprintf("%s%d@%v", e.Order, e.N, time.Since(began)))
				d, _ := bus.DeliveryFrom(ctx)
				if e.Order == "bad" && e.N == 1 && d.Attempt < 3 {
					return bus.RetryAfter(time.Minute, errors.New("no"))
				}
				return nil
			})
		})
		publish(t, b, placed{"bad", 1}, placed{"bad", 2}, placed{"good", 1}, placed{"bad", 3}, placed{"good", 2})
		synctest.Wait()
		publish(t, b, placed{"good", 3}, placed{"bad", 4})
		time.Sleep(time.Hour)
		got := seen.all()
		expect(t, "of the good key", only(got, "good"), []string{"good1@0s", "good2@0s", "good3@0s"})
		// Between the attempts lies what RetryAfter asked for, and never much more.
		bad := only(got, "bad")
		if len(bad) != 6 || bad[0] != "bad1@0s" || bad[1][:7] != "bad1@1m" || bad[2][:7] != "bad1@2m" {
			t.Errorf("of the bad key: %v", bad)
		}
		for i, n := range []int{2, 3, 4} {
			if len(bad) == 6 && bad[3+i][:4] != fmt.Sprintf("bad%d", n) {
				t.Errorf("of the bad key: %v", bad)
			}
		}
	})
}

func only(list []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s[:len(prefix)] != prefix })
}

// TestReturnedMessageTakenByAnother: what was requeued goes to another consumer; the key must not wait for it.
func TestReturnedMessageTakenByAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		tr.lost = func() error { // once what is settled has arrived
			tr.mu.Lock()
			defer tr.mu.Unlock()
			tr.waiting = slices.DeleteFunc(tr.waiting, func(d transport.Delivery) bool { return d.Attempt > 1 })
			return nil
		}
		var seen record[placed]
		b := run(t, bus.Config{Transport: tr}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error {
				seen.add(e)
				if e.N == 1 {
					return errors.New("no")
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1})
		time.Sleep(time.Minute)
		first := len(seen.all())
		publish(t, b, placed{"k", 2}, placed{"k", 3})
		time.Sleep(time.Minute)
		expect(t, "handled", seen.all()[first:], []placed{{"k", 2}, {"k", 3}})
	})
}

// TestMiddlewareChangesTheKey: the order is that of the key with which the message came.
func TestMiddlewareChangesTheKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		rekey := func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				changed := *d.Message()
				changed.Key = fmt.Sprintf("%s-%d", d.Message().Key, d.Attempt)
				d.SetMessage(&changed)
				return next(ctx, d)
			}
		}
		var seen record[int]
		b := run(t, bus.Config{Middleware: []bus.Middleware{rekey}}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e placed) error {
				seen.add(e.N)
				if d, _ := bus.DeliveryFrom(ctx); e.N == 2 && d.Attempt == 1 {
					return errors.New("no")
				}
				return nil
			})
		})
		publish(t, b, placed{"k", 1}, placed{"k", 2}, placed{"k", 3})
		time.Sleep(time.Minute)
		expect(t, "handled", seen.all(), []int{1, 2, 2, 3})
	})
}
