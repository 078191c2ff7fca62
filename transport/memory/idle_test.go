package memory_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// Who handles a message publishes the next one before it acknowledges: at no moment is nothing pending, in whatever order
// Pending looks at the queues.
func TestPendingIsOfOneMoment(t *testing.T) {
	t.Parallel()
	for range 20 {
		tr := open(t, memory.Config{})
		subs := map[string]transport.Subscription{}
		topics := []string{"a", "b", "c"}
		for _, name := range topics {
			sub, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: name, Group: "g"})
			if err != nil {
				t.Fatal(err)
			}
			subs[name] = sub
		}
		if err := tr.Publish(t.Context(), "a", batch("m", 1)); err != nil {
			t.Fatal(err)
		}
		var last atomic.Bool
		var handing sync.WaitGroup
		handing.Go(func() {
			defer last.Store(true)
			for i := range 100 {
				sub := subs[topics[i%3]]
				got, err := sub.Receive(t.Context(), 1)
				if err != nil {
					t.Error(err)
					return
				}
				if err := tr.Publish(t.Context(), topics[(i+1)%3], batch("m", 1)); err != nil {
					t.Error(err)
				}
				if err := sub.Settle(t.Context(), []transport.Settlement{{Tag: got[0].Tag, Outcome: transport.Ack}}); err != nil {
					t.Error(err)
				}
			}
		})
		for !last.Load() {
			if tr.Pending() == 0 {
				t.Error("nothing was pending while a message was handed on")
				break
			}
		}
		handing.Wait()
		if t.Failed() {
			return
		}
	}
}
