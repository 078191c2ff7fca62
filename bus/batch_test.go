package bus_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestADeliveryKnowsItsBatchAndItsKey(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{Share: true})
		defer tr.Close()
		var batches record[uint64]
		var keys record[string]
		b := run(t, bus.Config{Transport: tr, Middleware: []bus.Middleware{func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				batches.add(d.Batch)
				keys.add(d.Key())
				if d.HasEnvelope() {
					t.Error("asking for the key has made the envelope")
				}
				return next(ctx, d)
			}
		}}}, func(b *bus.Bus) { bus.Handle(b, "g", func(context.Context, placed) error { return nil }) })
		for _, key := range []string{"a", "b", ""} {
			publish(t, b, placed{Order: key})
			synctest.Wait()
		}
		expect(t, "keys", keys.all(), []string{"a", "b", ""})
		all := batches.all()
		if len(all) != 3 || all[0] == 0 || all[0] >= all[1] || all[1] >= all[2] {
			t.Errorf("batches %v, want numbers that grow from 1 at least", all)
		}
		if d := bus.NewDelivery(&transport.Message{ID: "m", Key: "k"}, "t", "g", 1); d.Batch != 0 || d.Key() != "k" {
			t.Errorf("got %+v", d)
		}
	})
}
