package saga_test

import (
	"testing"
	"time"

	"github.com/postbus/postbus/saga"
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
			if i := p.until("checkout", "a", saga.Completed); i.State != nil || p.story("checkout", "a") != "" {
				t.Errorf("a straggler has started it again: %+v", i)
			}
		})
		f.exec("UPDATE postbus_saga SET ended_ms = -1 WHERE inst = 'a'")
		run(saga.Config{}, func(p *program) {
			p.eventually("the end of the tombstone", func() bool { _, err := p.Get(t.Context(), "checkout", "a"); return err != nil })
			p.publish(placed{"a"})
			p.untilStep("checkout", "a", saga.Running, "charge")
		})
	})
}
