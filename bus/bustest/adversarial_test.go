package bustest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
)

// numbered is the n-th event of a key.
type numbered struct {
	Key string
	N   int
}

func (numbered) EventName() string  { return "test.numbered" }
func (e numbered) EventKey() string { return e.Key }

func publishNumbered(p *bustest.Probe, keys, each int) {
	for n := range each {
		for k := range keys {
			p.Publish(numbered{fmt.Sprint("k", k), n})
		}
	}
}

// books is what a test keeps of a program's database.
type books struct {
	charges int
	charged map[string]bool
	paid    map[string]bool
}

func newBooks() *books { return &books{charged: map[string]bool{}, paid: map[string]bool{}} }

// once charges each order once, and publishes under an id that is the same each time.
func (s *books) once(b *bus.Bus) {
	bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
		if !s.charged[e.OrderID] {
			s.charged[e.OrderID] = true
			s.charges++
		}
		return b.Publish(ctx, bus.WithID("paid-"+e.OrderID, Paid{e.OrderID}))
	})
	bus.Handle(b, "shipping", func(_ context.Context, e Paid) error {
		s.paid[e.OrderID] = true
		return nil
	})
}

// careless charges whenever it is called.
func (s *books) careless(b *bus.Bus) {
	bus.Handle(b, "billing", func(context.Context, Placed) error {
		s.charges++
		return nil
	})
}

// forgetful remembers in the process what it has charged.
func (s *books) forgetful(b *bus.Bus) {
	charged := map[string]bool{}
	bus.Handle(b, "billing", func(_ context.Context, e Placed) error {
		if !charged[e.OrderID] {
			charged[e.OrderID] = true
			s.charges++
		}
		return nil
	})
}

// announcing publishes before it remembers, under a new id each time.
func (s *books) announcing(b *bus.Bus) {
	bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
		if s.charged[e.OrderID] {
			return nil
		}
		if err := b.Publish(ctx, Paid{e.OrderID}); err != nil {
			return err
		}
		s.charged[e.OrderID] = true
		s.charges++
		return nil
	})
}

const orders = 4

// run charges orders under the seed, and returns the number of charges, of payments, and the trace.
func run(t *testing.T, seed uint64, wire func(*books) func(*bus.Bus)) (charges, paid int, trace []string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := newBooks()
		p := bustest.Run(t, wire(s), bustest.Adversarial(seed))
		for n := range orders {
			p.Publish(Placed{OrderID: fmt.Sprint("o", n)})
		}
		p.Settle()
		charges, paid, trace = s.charges, len(bustest.Published[Paid](p)), p.Trace()
	})
	return charges, paid, trace
}

func TestAdversaryPassesWhatIsIdempotent(t *testing.T) {
	for seed := uint64(1); seed <= 200; seed++ {
		charges, paid, trace := run(t, seed, func(s *books) func(*bus.Bus) { return s.once })
		if charges != orders || paid != orders {
			t.Fatalf("seed %d: %d charges and %d payments, want %d:\n%s", seed, charges, paid, orders, strings.Join(trace, "\n"))
		}
	}
}

func TestAdversaryCatchesWhatIsNot(t *testing.T) {
	for name, wire := range map[string]func(*books) func(*bus.Bus){
		"careless":   func(s *books) func(*bus.Bus) { return s.careless },
		"forgetful":  func(s *books) func(*bus.Bus) { return s.forgetful },
		"announcing": func(s *books) func(*bus.Bus) { return s.announcing },
	} {
		caught := 0
		for seed := uint64(1); seed <= 10; seed++ {
			if charges, paid, _ := run(t, seed, wire); charges > orders || paid > orders {
				caught++
			}
		}
		if caught < 4 {
			t.Errorf("%s: caught by %d of 10 seeds", name, caught)
		}
	}
}

func TestAdversaryRepeatsItself(t *testing.T) {
	different := map[string]bool{}
	for seed := uint64(1); seed <= 20; seed++ {
		wire := func(s *books) func(*bus.Bus) { return s.once }
		_, _, first := run(t, seed, wire)
		_, _, second := run(t, seed, wire)
		if !slices.Equal(first, second) {
			t.Fatalf("seed %d:\n%s\nand then:\n%s", seed, strings.Join(first, "\n"), strings.Join(second, "\n"))
		}
		different[strings.Join(first, "\n")] = true
	}
	if len(different) != 20 {
		t.Errorf("20 seeds gave %d runs", len(different))
	}
}

func TestAdversaryKillsEverywhere(t *testing.T) {
	seen := map[string]bool{}
	for seed := uint64(1); seed <= 30; seed++ {
		_, _, trace := run(t, seed, func(s *books) func(*bus.Bus) { return s.once })
		for _, line := range trace {
			if word, _, _ := strings.Cut(line, " "); word == "crash" {
				seen[line] = true
			} else {
				seen[word] = true
			}
		}
	}
	got := slices.Sorted(maps.Keys(seen))
	want := []string{
		"again",
		"crash after it was settled",
		"crash after the handler, before it was settled",
		"crash at Publish in the handler, nothing is out",
		"crash at Publish in the handler, the event is out",
		"crash before the handler",
		"crash between deliveries",
		"deliver",
	}
	if !slices.Equal(got, want) {
		t.Errorf("seen: %q\nwant: %q", got, want)
	}
}

func TestAdversaryKeepsTheOrderOfAKey(t *testing.T) {
	reordered, repeated := false, false
	for seed := uint64(1); seed <= 50; seed++ {
		synctest.Test(t, func(t *testing.T) {
			last, highest := map[string]int{}, map[string]int{}
			total := 0
			p := bustest.Run(t, func(b *bus.Bus) {
				bus.Handle(b, "audit", func(_ context.Context, e numbered) error {
					before, seen := last[e.Key]
					if !seen {
						before = -1
					}
					if e.N > before+1 {
						t.Errorf("seed %d: key %s: %d came after %d", seed, e.Key, e.N, before)
					}
					repeated = repeated || e.N <= before
					for _, n := range highest {
						reordered = reordered || e.N < n
					}
					last[e.Key], highest[e.Key] = e.N, max(e.N, highest[e.Key])
					if total++; total%7 == 0 {
						return errors.New("now and then")
					}
					return nil
				})
			}, bustest.Adversarial(seed))
			publishNumbered(p, 3, 5)
			p.Settle()
			for key, n := range last {
				if n != 4 {
					t.Errorf("seed %d: key %s ended at %d", seed, key, n)
				}
			}
		})
	}
	if !reordered || !repeated {
		t.Errorf("reordered: %t, repeated: %t; want both", reordered, repeated)
	}
}

func TestAdversaryKeepsAtMostOnceAndDelays(t *testing.T) {
	lost := false
	for seed := uint64(1); seed <= 50; seed++ {
		synctest.Test(t, func(t *testing.T) {
			start := time.Now()
			mails := map[string]int{}
			p := bustest.Run(t, func(b *bus.Bus) {
				bus.Handle(b, "mail", func(_ context.Context, e Paid) error {
					time.Sleep(time.Second)
					mails[e.OrderID]++
					if e.OrderID == "late" && time.Since(start) < time.Hour {
						t.Errorf("seed %d: too early: %v", seed, time.Since(start))
					}
					return nil
				})
			}, groups(map[string]bus.GroupConfig{"mail": {Delivery: bus.AtMostOnce}}), bustest.Adversarial(seed))
			p.Publish(bus.After(time.Hour, Paid{"late"}), Paid{"o1"}, Paid{"o2"})
			p.Settle()
			for id, n := range mails {
				if n > 1 {
					t.Errorf("seed %d: %d mails for %s:\n%s", seed, n, id, strings.Join(p.Trace(), "\n"))
				}
			}
			lost = lost || len(mails) < 3
		})
	}
	if !lost {
		t.Error("nothing was lost between acknowledgement and handling")
	}
}

func TestSeed(t *testing.T) {
	random := attempt(t, func(t testing.TB) { bustest.Run(t, func(*bus.Bus) {}, bustest.Adversarial(0)) })
	contains(t, random.logged(), "adversarial seed ")
	t.Setenv(bustest.SeedVariable, "42")
	fixed := attempt(t, func(t testing.TB) {
		p := bustest.Run(t, func(*bus.Bus) {}, bustest.Adversarial(1))
		p.Settle()
		t.Errorf("wrong")
	})
	contains(t, fixed.logged(), "adversarial seed 42", "POSTBUS_SEED=42", "what the adversary did with seed 42")
	t.Setenv(bustest.SeedVariable, "many")
	contains(t, attempt(t, func(t testing.TB) { bustest.Run(t, func(*bus.Bus) {}, bustest.Adversarial(1)) }).failed(), `POSTBUS_SEED="many"`)
	t.Setenv(bustest.SeedVariable, "")
	other := attempt(t, func(t testing.TB) {
		bustest.Run(t, func(*bus.Bus) {}, bustest.Adversarial(1), bustest.Config(func(cfg *bus.Config) { cfg.Transport = nil }))
	})
	contains(t, other.failed(), "Config.Transport")
}
