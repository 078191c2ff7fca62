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

// TestBusOverCuts runs a bus over a broker whose connections break: each event is handled, those of one key in order.
func TestBusOverCuts(t *testing.T) {
	t.Parallel()
	p := newProxy(t, with(t, brokerURL(t), "single-active-consumer=true"))
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
	last := map[string]int{}
	handled := 0
	done := make(chan struct{})
	bus.Handle(b, "billing", func(_ context.Context, e placed) error {
		mu.Lock()
		defer mu.Unlock()
		switch n := last[e.Order]; {
		case e.N > n+1:
			t.Errorf("%s: %d came after %d", e.Order, e.N, n)
		case e.N <= n:
			return nil // again
		case e.N%10 == 3 && handled%2 == 0:
			handled++
			return errors.New("not this time")
		}
		last[e.Order] = e.N
		total := 0
		for _, n := range last {
			total += n
		}
		if handled++; total == keys*each {
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
