package memory_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// Publishers, groups, subscriptions that come and go, delays and deliveries that are given back, all at once: each group
// gets each message, acknowledged once, and in the end nothing is pending.
func TestHammer(t *testing.T) {
	t.Parallel()
	const publishers, each, groups, consumers = 4, 300, 3, 3
	tr := open(t, memory.Config{Capacity: 16})
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var acked [groups]sync.Map
	var done atomic.Int64
	var wg sync.WaitGroup
	defer wg.Wait()
	for g := range groups {
		group := fmt.Sprint("group ", g)
		if err := join(t, tr, group).Close(); err != nil {
			t.Fatal(err)
		}
		for c := range consumers {
			wg.Go(func() {
				for ctx.Err() == nil {
					if err := visit(ctx, tr, group, &acked[g], &done, publishers*each*groups, 7+5*c); err != nil {
						t.Error(err)
						cancel()
					}
				}
			})
		}
	}
	for p := range publishers {
		wg.Go(func() {
			for i := 0; i < each; i += 3 {
				msgs := batch(fmt.Sprint(p, "-", i), 3)
				msgs[1].NotBefore = time.Now().Add(time.Duration(i) * 10 * time.Microsecond)
				if err := tr.Publish(ctx, topic, msgs); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for done.Load() < publishers*each*groups {
		if err := tr.WaitIdle(ctx); err != nil {
			t.Fatalf("%v: %d of %d were acknowledged, %d are pending", err, done.Load(), publishers*each*groups, tr.Pending())
		}
	}
	if err := tr.WaitIdle(ctx); err != nil {
		t.Error(err)
	}
	cancel()
}

// visit subscribes, settles about n deliveries, some of them by giving back, and leaves with what it has in hand.
func visit(ctx context.Context, tr *memory.Transport, group string, acked *sync.Map, done *atomic.Int64, all int64, n int) error {
	sub, err := tr.Subscribe(context.WithoutCancel(ctx), transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: 5})
	if err != nil {
		return err
	}
	defer sub.Close()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	for seen := 0; seen < n; {
		ds, err := sub.Receive(ctx, 3)
		if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, d := range ds {
			seen++
			outcome := transport.Ack
			switch {
			case seen%4 == 0 && done.Load() < all/2:
				outcome = transport.Requeue
			case seen%5 == 0:
				continue
			}
			if outcome == transport.Ack {
				if _, twice := acked.LoadOrStore(d.ID, true); twice {
					return fmt.Errorf("%s was acknowledged, and came again to %s", d.ID, group)
				}
				done.Add(1)
			}
			if err := sub.Settle(ctx, []transport.Settlement{{Tag: d.Tag, Outcome: outcome}}); err != nil {
				return err
			}
		}
	}
	return nil
}

// Whatever is under way when the transport is closed returns, with nil or ErrClosed.
func TestCloseUnderLoad(t *testing.T) {
	t.Parallel()
	for range 20 {
		tr := memory.New(memory.Config{Capacity: 4})
		var wg sync.WaitGroup
		check := func(err error) bool {
			if err != nil && !errors.Is(err, transport.ErrClosed) {
				t.Errorf("got %v", err)
			}
			return err == nil
		}
		for range 3 {
			sub := join(t, tr, "billing")
			wg.Go(func() {
				for {
					ds, err := sub.Receive(t.Context(), 3)
					if !check(err) {
						return
					}
					for _, d := range ds {
						check(sub.Settle(t.Context(), []transport.Settlement{{Tag: d.Tag, Outcome: transport.Ack}}))
					}
				}
			})
			wg.Go(func() {
				for check(tr.Publish(t.Context(), topic, batch("m", 3))) {
				}
			})
			wg.Go(func() {
				for {
					extra, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: topic, Group: "shipping"})
					if !check(err) {
						return
					}
					check(extra.Close())
				}
			})
		}
		wg.Go(func() {
			time.Sleep(time.Millisecond)
			check(tr.Close())
		})
		wg.Wait()
	}
}
