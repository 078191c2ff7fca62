package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport/rabbitmq"
)

type placed struct {
	Order string
	N     int
}

func (p placed) EventName() string { return "orders.placed" }
func (p placed) EventKey() string  { return p.Order }

// TestBusOverCuts runs a bus over a broker whose connections break: each event is handled, and none before an earlier one
// of its key.
func TestBusOverCuts(t *testing.T) {
	t.Parallel()
	p := newProxy(t, with(t, brokerURL(t), "single-active-consumer=true&connect_timeout="+patience.String()))
	tr, err := rabbitmq.OpenURL(t.Context(), p.url, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	topic := unique(t, "billing")
	b, err := bus.New(bus.Config{Name: "shop", Transport: tr, Logger: quiet(), Topic: func(string) string { return topic }})
	if err != nil {
		t.Fatal(err)
	}
	const keys, each = 5, 40
	var mu sync.Mutex
	seen := map[placed]bool{}
	last := map[string]int{}
	failed := 0
	done := make(chan struct{})
	bus.Handle(b, "billing", func(_ context.Context, e placed) error {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case seen[e]:
			return nil
		case e.N%10 == 3 && failed < 2*keys:
			failed++
			return errors.New("not this time")
		}
		if e.N != last[e.Order]+1 {
			t.Errorf("key %s: %d came after %d", e.Order, e.N, last[e.Order])
		}
		last[e.Order] = e.N
		if seen[e] = true; len(seen) == keys*each {
			close(done)
		}
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- b.Run(ctx) }()
	eventually(t, "the bus runs", func() bool { return tr.Status().Consume.Connects > 0 })
	for n := 1; n <= each; n++ {
		for k := range keys {
			for b.Publish(t.Context(), placed{fmt.Sprint(k), n}) != nil && t.Context().Err() == nil {
			}
		}
		if n%15 == 0 {
			p.cut()
		}
	}
	select {
	case <-done:
	case <-t.Context().Done():
	}
	stop()
	if err := <-ran; err != nil {
		t.Errorf("Run: %v", err)
	}
}
