package saga_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
)

// TestRetention: an ended instance becomes a tombstone, which keeps stragglers out until it goes.
func TestRetention(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		def := simple()
		run := func(cfg saga.Config, then func(p *program)) {
			cfg.Sagas = []saga.Saga{def}
			p, stop := f.startStoppable(cfg, nil)
			defer stop()
			then(p)
		}
		run(saga.Config{}, func(p *program) {
			p.publish(placed{"a"}, placed{"b"}, captured{"a"})
			p.until("checkout", "a", saga.Completed)
			p.untilStep("checkout", "b", saga.Running, "charge")
		})
		run(saga.Config{Retention: time.Nanosecond}, func(p *program) {
			p.eventually("the tombstone", func() bool { return p.story("checkout", "a") == "" })
			p.publish(placed{"a"}, captured{"a"}, captured{"b"})
			p.until("checkout", "b", saga.Completed)
			// None of them may be left for the next program, in which "a" is gone.
			p.eventually("end of the messages", func() bool {
				stats := p.bus.Stats()["saga.checkout"]
				return stats.Handled-stats.Ignored >= 3
			})
			if i := p.until("checkout", "a", saga.Completed); i.State != nil || p.story("checkout", "a") != "" {
				t.Errorf("a straggler has started it again: %+v", i)
			}
			p.eventually("tombstone of what has ended since the start", func() bool { return p.story("checkout", "b") == "" })
		})
		f.exec("UPDATE postbus_saga SET ended_ms = -1 WHERE inst = 'a'")
		run(saga.Config{}, func(p *program) {
			p.eventually("the end of the tombstone", func() bool { _, err := p.Get(t.Context(), "checkout", "a"); return err != nil })
			p.publish(placed{"a"})
			p.untilStep("checkout", "a", saga.Running, "charge")
		})
	})
}

// TestRetentionOfChildren: what a parent may have to undo is kept until that has ended.
func TestRetentionOfChildren(t *testing.T) {
	t.Parallel()
	f := newFixture(t, store.SQLite)
	var undone atomic.Int32
	child := deliveries()
	child.Steps[0].Undo = func(_ context.Context, r *saga.Run[delivery]) error {
		if r.State.Tracking == "T1" {
			undone.Add(1)
		}
		return nil
	}
	def := withChild(child, saga.Step[order]{Name: "charge", Await: payment, Timeout: time.Hour})
	p := f.start(saga.Config{Sagas: []saga.Saga{def, child}, Retention: time.Nanosecond}, nil)
	p.publish(placed{"o1"})
	p.until("delivery", "d-o1", saga.Running)
	p.publish(packed{"d-o1"}, placed{"o2"})
	p.until("delivery", "d-o2", saga.Running)
	p.publish(packed{"d-o2"})
	p.untilStep("checkout", "o1", saga.Running, "charge")
	p.untilStep("checkout", "o2", saga.Running, "charge")
	p.publish(captured{"o2"}) // has ended later than the child of "o1", and goes nevertheless
	p.eventually("tombstone", func() bool { return p.story("checkout", "o2") == "" && p.story("delivery", "d-o2") == "" })
	p.publish(declined{"o1"})
	p.until("checkout", "o1", saga.Compensated)
	p.until("delivery", "d-o1", saga.Compensated)
	if n := undone.Load(); n != 1 {
		t.Errorf("the child was undone %d times", n)
	}
	p.eventually("tombstone", func() bool { return p.story("checkout", "o1") == "" && p.story("delivery", "d-o1") == "" })
}
