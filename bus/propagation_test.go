package bus_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

var trace = map[string]string{"traceparent": "00-1-2-01", "tracestate": "a=b", "baggage": "user=7"}

// TestPropagation follows a chain of three messages, with wrappers and derived contexts in between.
func TestPropagation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		type seen struct {
			id, correlation, causation string
			metadata                   map[string]string
		}
		var list record[seen]
		note := func(ctx context.Context) {
			d, ok := bus.DeliveryFrom(ctx)
			if !ok {
				t.Fatal("no delivery in the context of a handler")
			}
			list.add(seen{d.Message().ID, d.Message().CorrelationID, d.Message().CausationID, d.Message().Metadata})
		}
		b := run(t, bus.Config{}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, _ placed) error {
				note(ctx)
				derived, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
				defer cancel()
				return b.Publish(derived, bus.WithID("second", bus.After(time.Hour, bus.WithMetadata(map[string]string{"own": "1"}, paid{1}))))
			})
			bus.Handle(b, "g", func(ctx context.Context, _ paid) error {
				note(ctx)
				return b.Publish(ctx, bus.WithID("third", shipped{1}))
			})
			bus.Handle(b, "g", func(ctx context.Context, _ shipped) error { note(ctx); return nil })
		})
		root := bus.WithMetadata(map[string]string{"other": "2"}, bus.WithMetadata(trace, placed{"k", 1}))
		if err := b.Publish(bus.WithCorrelationID(t.Context(), "request-1"), bus.WithID("first", root)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Hour)
		second := maps.Clone(trace)
		second["own"] = "1"
		first := maps.Clone(trace)
		first["other"] = "2"
		expect(t, "messages", list.all(), []seen{
			{"first", "request-1", "", first},
			{"second", "request-1", "first", second},
			{"third", "request-1", "second", trace},
		})
	})
}

func TestOrigins(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	d := func(m transport.Message) context.Context {
		return bus.WithDelivery(ctx, bus.NewDelivery(&m, "orders", "g", 1))
	}
	ownTrace := map[string]string{"traceparent": "00-9-9-01"}
	tests := []struct {
		name                   string
		ctx                    context.Context
		event                  bus.Event
		correlation, causation string // "own" is the id of the message
		metadata               map[string]string
	}{
		{"a root", ctx, paid{}, "own", "", nil},
		{"an edge", bus.WithCorrelationID(ctx, "r"), paid{}, "r", "", nil},
		{"an edge without an id", bus.WithCorrelationID(ctx, ""), paid{}, "own", "", nil},
		{"caused", d(transport.Message{ID: "m", CorrelationID: "c"}), paid{}, "c", "m", nil},
		{"caused by a foreign message", d(transport.Message{ID: "m"}), paid{}, "m", "m", nil},
		{"its own correlation in a handler", bus.WithCorrelationID(d(transport.Message{ID: "m", CorrelationID: "c"}), "r"), paid{}, "r", "m", nil},
		{"no correlation in a handler", bus.WithCorrelationID(d(transport.Message{ID: "m", CorrelationID: "c"}), ""), paid{}, "c", "m", nil},
		{"no delivery", bus.WithDelivery(ctx, nil), paid{}, "own", "", nil},
		{"traced", d(transport.Message{ID: "m", Metadata: trace}), paid{}, "m", "m", trace},
		{"other metadata of the cause", d(transport.Message{ID: "m", Metadata: map[string]string{"x": "1"}}), paid{}, "m", "m", nil},
		{"its own trace", d(transport.Message{ID: "m", Metadata: trace}), bus.WithMetadata(ownTrace, paid{}), "m", "m", ownTrace},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := published(t, tt.ctx, tt.event)[0]
			want := tt.correlation
			if want == "own" {
				want = m.ID
			}
			expect(t, "correlation id", m.CorrelationID, want)
			expect(t, "causation id", m.CausationID, tt.causation)
			if !maps.Equal(m.Metadata, tt.metadata) || (m.Metadata == nil) != (tt.metadata == nil) {
				t.Errorf("metadata %#v, want %#v", m.Metadata, tt.metadata)
			}
		})
	}
	expect(t, "what was given", fmt.Sprint(ownTrace, len(trace)), "map[traceparent:00-9-9-01] 3")
}

// TestPublishWithinHandlerNeverWaits: also in code that handles deliveries without a bus.
func TestPublishWithinHandlerNeverWaits(t *testing.T) {
	t.Parallel()
	if !transport.WithinHandler(bus.WithDelivery(t.Context(), bus.NewDelivery(&transport.Message{ID: "m"}, "orders", "g", 1))) {
		t.Error("WithDelivery: not within a handler")
	}
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{Capacity: 1})
		var seen record[int]
		b := run(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 1})}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e paid) error {
				seen.add(e.N)
				if e.N > 0 {
					return nil
				}
				return b.Publish(ctx, paid{1}, paid{2}, paid{3}, paid{4})
			})
		})
		publish(t, b, paid{0})
		synctest.Wait()
		expect(t, "handled", seen.all(), []int{0, 1, 2, 3, 4})
	})
}
