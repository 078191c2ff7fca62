package bustest_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
)

func TestAdversaryEndsTheHandlerAtPublish(t *testing.T) {
	after, deferred := 0, 0
	for seed := uint64(1); seed <= 30; seed++ {
		synctest.Test(t, func(t *testing.T) {
			p := bustest.Run(t, func(b *bus.Bus) {
				bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
					defer func() {
						if ctx.Err() != nil {
							deferred++
						}
					}()
					_ = b.Publish(ctx, Paid{e.OrderID})
					if ctx.Err() != nil {
						after++
					}
					return nil
				})
			}, bustest.Adversarial(seed))
			p.Publish(Placed{OrderID: "o1"}, Placed{OrderID: "o2"})
			p.Settle()
		})
	}
	if after > 0 || deferred == 0 {
		t.Errorf("%d handlers went on after their process had died, %d ran what they had deferred", after, deferred)
	}
}

func TestAdversaryIgnoresTheDead(t *testing.T) {
	refused := 0
	for seed := uint64(1); seed <= 10; seed++ {
		synctest.Test(t, func(t *testing.T) {
			p := bustest.Run(t, func(b *bus.Bus) {
				bus.Handle(b, "billing", func(ctx context.Context, e Placed) error {
					go func() { // tries to go on when the process has died
						<-ctx.Done()
						if err := b.Publish(ctx, shipped{e.OrderID}); err != nil {
							refused++
						}
					}()
					return b.Publish(ctx, Paid{e.OrderID})
				})
			}, bustest.Adversarial(seed))
			p.Publish(Placed{OrderID: "o1"})
			p.Settle()
			if got := bustest.Published[shipped](p); len(got) != 0 {
				t.Errorf("seed %d: the dead have published %v", seed, got)
			}
		})
	}
	if refused == 0 {
		t.Error("no process died of a crash in 10 runs")
	}
}

func TestAdversaryKillsOnlyWithinAStep(t *testing.T) {
	for seed := uint64(1); seed <= 50; seed++ {
		synctest.Test(t, func(t *testing.T) {
			var handler context.Context // of a handler that has ended
			p := bustest.Run(t, func(b *bus.Bus) {
				bus.Handle(b, "mail", func(ctx context.Context, e Placed) error {
					handler = ctx
					return b.Publish(ctx, Paid{e.OrderID})
				})
			}, groups(map[string]bus.GroupConfig{"mail": {Delivery: bus.AtMostOnce}}), bustest.Adversarial(seed))
			p.Publish(Placed{OrderID: "o1"})
			p.Settle()
			if handler == nil || handler.Err() != nil {
				return
			}
			if err := p.Bus().Publish(handler, Paid{"o2"}); err != nil {
				t.Errorf("seed %d: the process is dead after Settle: %v", seed, err)
			}
		})
	}
}
