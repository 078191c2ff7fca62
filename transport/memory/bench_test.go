package memory_test

import (
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// BenchmarkPublishReceiveSettle is one message through the queue, by one goroutine.
func BenchmarkPublishReceiveSettle(b *testing.B) {
	t := memory.New(memory.Config{})
	defer t.Close()
	sub, err := t.Subscribe(b.Context(), transport.SubscribeConfig{Topic: "orders", Group: "billing"})
	if err != nil {
		b.Fatal(err)
	}
	msgs := []transport.Message{{ID: "0197c1f0-7c3e-7000-8000-000000000001", Name: "orders.placed", Key: "o1", Payload: []byte("{}")}}
	settle := make([]transport.Settlement, 1)
	b.ReportAllocs()
	for b.Loop() {
		if err := t.Publish(b.Context(), "orders", msgs); err != nil {
			b.Fatal(err)
		}
		ds, err := sub.Receive(b.Context(), 64)
		if err != nil {
			b.Fatal(err)
		}
		settle[0] = transport.Settlement{Tag: ds[0].Tag, Outcome: transport.Ack}
		if err := sub.Settle(b.Context(), settle); err != nil {
			b.Fatal(err)
		}
	}
}
