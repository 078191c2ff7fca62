package bus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// stamp returns a middleware that writes down what passes, and adds metadata to copies.
func stamp(name string, calls *record[string]) bus.PublishMiddleware {
	return func(next bus.PublishHandler) bus.PublishHandler {
		return func(ctx context.Context, topic string, msgs []transport.Message) error {
			calls.add(fmt.Sprintf("%s %s %d", name, topic, len(msgs)))
			changed := make([]transport.Message, len(msgs))
			for i, m := range msgs {
				changed[i] = m
				changed[i].Metadata = map[string]string{"by": m.Metadata["by"] + name}
			}
			return next(ctx, topic, changed)
		}
	}
}

func TestPublishing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var calls, by record[string]
		b := run(t, bus.Config{Publishing: []bus.PublishMiddleware{stamp("a", &calls), stamp("b", &calls)}}, func(b *bus.Bus) {
			note := func(ctx context.Context) error {
				d, _ := bus.DeliveryFrom(ctx)
				by.add(d.Message().Metadata["by"])
				return nil
			}
			bus.Handle(b, "g", func(ctx context.Context, _ placed) error { return note(ctx) })
			bus.Handle(b, "g", func(ctx context.Context, _ shipped) error { return note(ctx) })
		})
		publish(t, b, placed{"k", 1})
		publish(t, b, placed{"k", 2}, shipped{1}, placed{"k", 3})
		synctest.Wait()
		expect(t, "calls", calls.all(), []string{"a orders 1", "b orders 1", "a orders 2", "b orders 2", "a parcels 1", "b parcels 1"})
		expect(t, "metadata", by.all(), []string{"ab", "ab", "ab", "ab"})
	})
}

func TestPublishingIsChecked(t *testing.T) {
	t.Parallel()
	for _, bad := range []bus.PublishMiddleware{
		nil,
		func(bus.PublishHandler) bus.PublishHandler { return nil },
		func(bus.PublishHandler) bus.PublishHandler { panic("no") },
	} {
		if _, err := bus.New(bus.Config{Publishing: []bus.PublishMiddleware{bad}}); !errors.Is(err, bus.ErrInvalid) {
			t.Errorf("New: %v", err)
		}
		_, err := bus.NewPublisher(bus.PublisherConfig{
			Publish:    func(context.Context, string, []transport.Message) error { return nil },
			Publishing: []bus.PublishMiddleware{bad},
		})
		if !errors.Is(err, bus.ErrInvalid) {
			t.Errorf("NewPublisher: %v", err)
		}
	}
	if _, err := bus.NewPublisher(bus.PublisherConfig{}); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("NewPublisher without Publish: %v", err)
	}
}

// TestNewPublisher: the messages are those that a bus makes.
func TestNewPublisher(t *testing.T) {
	t.Parallel()
	sent := map[string][]transport.Message{}
	p, err := bus.NewPublisher(bus.PublisherConfig{
		Capabilities: transport.Capabilities{Delay: true, MaxPayload: 100},
		Publish: func(_ context.Context, topic string, msgs []transport.Message) error {
			sent[topic] = append(sent[topic], msgs...)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	cause := &transport.Message{ID: "cause", CorrelationID: "request", Metadata: trace}
	ctx := bus.WithDelivery(t.Context(), bus.NewDelivery(cause, "carts", "g", 1))
	if err := p.Publish(ctx, placed{"k", 1}, bus.After(time.Hour, bus.WithID("second", shipped{2}))); err != nil {
		t.Fatal(err)
	}
	first, second := sent["orders"][0], sent["parcels"][0]
	expect(t, "placed", []string{first.Name, first.Key, string(first.Payload), first.CorrelationID, first.CausationID, first.Metadata["traceparent"]},
		[]string{"orders.placed", "k", `{"order":"k","n":1}`, "request", "cause", trace["traceparent"]})
	expect(t, "shipped", []any{second.ID, second.NotBefore.Sub(second.Time)}, []any{"second", time.Hour})
	if err := p.Publish(t.Context(), placed{fmt.Sprintf("%200d", 1), 1}); !bus.IsPermanent(err) || !errors.Is(err, transport.ErrTooLarge) {
		t.Errorf("too large: %v", err)
	}
	if err := p.Publish(t.Context(), nil); !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("nil: %v", err)
	}
}

// TestEncoded: what travels by reference has a payload when it is asked for one.
func TestEncoded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var got record[string]
		encode := func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error {
				m, err := d.Encoded()
				if err != nil {
					return err
				}
				got.add(fmt.Sprintf("%s %s %s %t", m.Name, m.ContentType, m.Payload, m.ID == d.Message().ID))
				return next(ctx, d)
			}
		}
		b := run(t, bus.Config{
			Middleware: []bus.Middleware{encode}, Groups: group("g", bus.GroupConfig{Workers: 1}),
		}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(context.Context, paid) error { return nil })
		})
		publish(t, b, paid{1})                                                // a letter
		publish(t, b, bus.WithMetadata(map[string]string{"a": "b"}, paid{2})) // an envelope with a value
		synctest.Wait()
		expect(t, "encoded", got.all(), []string{`orders.paid application/json {"N":1} true`, `orders.paid application/json {"N":2} true`})
	})
	d := bus.NewDelivery(&transport.Message{ID: "1", Payload: []byte("raw")}, "orders", "g", 1)
	if m, err := d.Encoded(); err != nil || string(m.Payload) != "raw" {
		t.Errorf("a payload: %v, %v", m, err)
	}
}
