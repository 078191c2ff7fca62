package bustest_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
)

func groups(g map[string]bus.GroupConfig) bustest.Option {
	return bustest.Config(func(cfg *bus.Config) { cfg.Groups = g })
}

func TestSettleOutsideOfABubble(t *testing.T) {
	t.Parallel()
	p := bustest.Run(t, func(b *bus.Bus) { wire(b, &Billing{Gateway: &flaky{failures: 2}, Events: b}) },
		groups(map[string]bus.GroupConfig{"billing": {MinBackoff: time.Millisecond, MaxBackoff: time.Millisecond}}))
	p.Publish(Placed{OrderID: "o1"}, bus.After(time.Millisecond, Placed{OrderID: "o2"}))
	p.Settle()
	if got := bustest.Published[Paid](p); len(got) != 2 {
		t.Errorf("paid: %v, want two", got)
	}
}

func TestSettleJumpsOverDelays(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		start := time.Now()
		p := bustest.Run(t, func(b *bus.Bus) {
			bus.Handle(b, "shipping", func(ctx context.Context, e Placed) error {
				at = append(at, time.Since(start))
				if len(at) == 1 {
					return bus.RetryAfter(time.Hour, errors.New("closed"))
				}
				if len(at) == 2 {
					return b.Publish(ctx, bus.After(24*time.Hour, e))
				}
				return nil
			})
		})
		p.Publish(Placed{OrderID: "o1"})
		p.Settle()
		if want := fmt.Sprint([]time.Duration{0, time.Hour, 25 * time.Hour}); fmt.Sprint(at) != want {
			t.Errorf("handled at %v, want %s", at, want)
		}
		if got := time.Since(start); got != 25*time.Hour {
			t.Errorf("settled after %v, want 25h", got)
		}
	})
}

func TestSettleWaitsForHandlersAtMostOnce(t *testing.T) {
	t.Parallel()
	cfg := groups(map[string]bus.GroupConfig{"mail": {Delivery: bus.AtMostOnce}})
	handle := func(wait time.Duration, mails *atomic.Int32) func(b *bus.Bus) {
		return func(b *bus.Bus) {
			bus.Handle(b, "mail", func(ctx context.Context, e Paid) error {
				time.Sleep(wait)
				mails.Add(1)
				return nil
			})
		}
	}
	t.Run("in a bubble", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var mails atomic.Int32
			p := bustest.Run(t, handle(time.Hour, &mails), cfg)
			p.Publish(Paid{"o1"}, Paid{"o2"})
			p.Settle()
			if n := mails.Load(); n != 2 {
				t.Errorf("%d mails, want 2", n)
			}
		})
	})
	t.Run("outside", func(t *testing.T) {
		var mails atomic.Int32
		p := bustest.Run(t, handle(10*time.Millisecond, &mails), cfg)
		p.Publish(Paid{"o1"}, Paid{"o2"})
		p.Settle()
		if n := mails.Load(); n != 2 {
			t.Errorf("%d mails, want 2", n)
		}
	})
}

func TestSettleTellsWhatIsPending(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		handle  func(b *bus.Bus) func(context.Context, Placed) error
		publish bus.Event
		want    []string
		endless bool
	}{
		"a handler that fails for ever": {
			func(*bus.Bus) func(context.Context, Placed) error {
				return func(context.Context, Placed) error { return errors.New("no such customer") }
			},
			bus.WithID("m1", Placed{OrderID: "o1"}),
			[]string{"too many deliveries", `event "orders.placed" id m1 key "o1" group "billing": `, "1000", "last error: no such customer"},
			false,
		},
		"two events that cause each other": {
			func(b *bus.Bus) func(context.Context, Placed) error {
				return func(ctx context.Context, e Placed) error { return b.Publish(ctx, e) }
			},
			Placed{OrderID: "o1"},
			[]string{"given up after", `event "orders.placed"`},
			true,
		},
		"a date that is far": {
			func(*bus.Bus) func(context.Context, Placed) error {
				return func(context.Context, Placed) error { return nil }
			},
			bus.After(1000*24*time.Hour, Placed{OrderID: "o1"}),
			[]string{"after 8760h", `0 attempts, scheduled for 2002-09-27`},
			false,
		},
		"a handler that is long": {
			func(*bus.Bus) func(context.Context, Placed) error {
				return func(ctx context.Context, _ Placed) error { <-ctx.Done(); return ctx.Err() }
			},
			Placed{OrderID: "o1"},
			[]string{"after 8760h", "attempt 1 in hand"},
			false,
		},
	} {
		for mode, opts := range map[string][]bustest.Option{"": nil, ", adversarial": {bustest.Adversarial(1)}} {
			if tc.endless && opts != nil {
				continue // takes seconds
			}
			t.Run(name+mode, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					got := attempt(t, func(t testing.TB) {
						p := bustest.Run(t, func(b *bus.Bus) { bus.Handle(b, "billing", tc.handle(b)) }, opts...)
						p.Publish(tc.publish)
						p.Settle()
					})
					contains(t, got.failed(), tc.want...)
				})
			})
		}
	}
}

func TestRunFailsWhenStartOrStopDo(t *testing.T) {
	t.Parallel()
	t.Run("Start", func(t *testing.T) {
		t.Parallel()
		got := attempt(t, func(t testing.TB) {
			bustest.Run(t, func(b *bus.Bus) { bus.Handle[named](b, "billing", nil) })
		})
		contains(t, got.failed(), "bustest: Start: ", "run_test.go", "the function is nil")
	})
	t.Run("New", func(t *testing.T) {
		t.Parallel()
		got := attempt(t, func(t testing.TB) {
			bustest.Run(t, func(*bus.Bus) {}, bustest.Config(func(cfg *bus.Config) { cfg.StopTimeout = -1 }))
		})
		contains(t, got.failed(), "StopTimeout")
	})
	t.Run("Stop", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			release := make(chan struct{})
			got := attempt(t, func(t testing.TB) {
				p := bustest.Run(t, func(b *bus.Bus) {
					bus.Handle(b, "billing", func(context.Context, Paid) error { <-release; return nil })
				})
				p.Publish(Paid{"o1"})
				synctest.Wait()
			})
			close(release)
			contains(t, got.failed(), "bustest: Stop: ", "handlers still running", "billing.paid")
		})
	})
	t.Run("Publish", func(t *testing.T) {
		t.Parallel()
		got := attempt(t, func(t testing.TB) { bustest.Run(t, func(*bus.Bus) {}).Publish(nil) })
		contains(t, got.failed(), "is nil")
	})
}

func TestMessagesAreThoseThatWerePublished(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		p := bustest.Run(t, func(b *bus.Bus) {
			bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
				tries++
				if err := b.Publish(ctx, bus.WithID("paid-"+e.OrderID, Paid{e.OrderID})); err != nil || tries < 3 {
					return errors.Join(err, errors.New("again"))
				}
				return nil
			})
		})
		p.Publish(bus.WithMetadata(map[string]string{"k": "v"}, Placed{OrderID: "o1"}), shipped{"o1"})
		if err := p.Bus().Publish(t.Context(), bus.WithMetadata(map[string]string{"k": "\x00"}, Paid{"bad"})); err == nil {
			t.Error("metadata with a NUL was published")
		}
		p.Settle()
		var names []string
		for _, m := range p.Messages() {
			names = append(names, m.Topic+"/"+m.Name)
		}
		if got, want := fmt.Sprint(names), "[orders/orders.placed orders/orders.shipped billing/billing.paid]"; got != want {
			t.Errorf("published %s, want %s", got, want)
		}
		if m := p.Messages()[0]; m.Metadata["k"] != "v" || m.Key != "o1" || m.ID == "" {
			t.Errorf("the envelope: %+v", m)
		}
		if got := bustest.Published[*shippedElsewhere](p); len(got) != 1 || got[0].OrderID != "o1" {
			t.Errorf("decoded: %v", got)
		}
	})
}
