package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"

	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/codec/protobuf"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestDispatchByName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		var one record[paid]
		var two record[placed]
		b := run(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 1})}, func(b *bus.Bus) {
			bus.Handle(b, "g", one.handle)
			bus.Handle(b, "g", two.handle)
		})
		expect(t, "subscriptions", len(tr.subs), 1)
		publish(t, b, paid{1}, placed{"k", 2}, badKey{"nobody handles it"}, paid{3})
		synctest.Wait()
		expect(t, "paid", one.all(), []paid{{1}, {3}})
		expect(t, "placed", two.all(), []placed{{"k", 2}})
		expect(t, "acked", len(tr.ackedIDs()), 4)
		expect(t, "stats", b.Stats()["g"], bus.GroupStats{Handled: 4, Ignored: 1})
	})
}

func TestEachGroupGetsEachMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var one, two record[paid]
		b := run(t, bus.Config{}, func(b *bus.Bus) {
			bus.Handle(b, "one", one.handle)
			bus.Handle(b, "two", two.handle)
		})
		publish(t, b, paid{1}, paid{2})
		synctest.Wait()
		expect(t, "one", len(one.all()), 2)
		expect(t, "two", len(two.all()), 2)
	})
}

// TestTopicFunction: events of all names can share one topic.
func TestTopicFunction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		var seen record[string]
		b := run(t, bus.Config{Transport: tr, Topic: func(string) string { return "all" }}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, _ paid) error { return seenTopic(ctx, &seen) })
			bus.Handle(b, "g", func(ctx context.Context, _ shipped) error { return seenTopic(ctx, &seen) })
		})
		publish(t, b, paid{1}, shipped{2})
		synctest.Wait()
		expect(t, "subscriptions", len(tr.subs), 1)
		expect(t, "topics", seen.all(), []string{"all", "all"})
	})
}

func seenTopic(ctx context.Context, seen *record[string]) error {
	d, _ := bus.DeliveryFrom(ctx)
	seen.add(d.Topic)
	return nil
}

func TestForeignMessages(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		message transport.Message
		want    error // nil: handled
	}{
		{"as ours", transport.Message{Name: "orders.paid", Payload: []byte(`{"N":7}`)}, nil},
		{"content type with a parameter", transport.Message{
			Name: "orders.paid", Payload: []byte(`{"N":7}`), ContentType: "Application/JSON ; charset=utf-8",
		}, nil},
		{"no name", transport.Message{Payload: []byte(`{"N":7}`)}, bus.ErrNoName},
		{"later version", transport.Message{Name: "orders.paid", Version: 2, Payload: []byte(`{"N":7}`)}, bus.ErrVersion},
		{"absurd version", transport.Message{Name: "orders.paid", Version: 1 << 62, Payload: []byte(`{"N":7}`)}, bus.ErrVersion},
		{"no payload", transport.Message{Name: "orders.paid"}, bus.ErrDecode},
		{"half a payload", transport.Message{Name: "orders.paid", Payload: []byte(`{"N":`)}, bus.ErrDecode},
		{"other types", transport.Message{Name: "orders.paid", Payload: []byte(`{"N":"seven"}`)}, bus.ErrDecode},
		{"unknown content type", transport.Message{Name: "orders.paid", Payload: []byte(`7`), ContentType: "text/x"}, bus.ErrDecode},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := memory.New(memory.Config{})
				var s spy
				var seen record[paid]
				run(t, bus.Config{Transport: tr, Middleware: []bus.Middleware{swallow, s.middleware}}, func(b *bus.Bus) {
					bus.Handle(b, "g", seen.handle)
				})
				foreign(t, tr, "orders", tt.message)
				synctest.Wait()
				errs := s.errs.all()
				if len(errs) != 1 || !errors.Is(errs[0], tt.want) {
					t.Fatalf("outcomes %v, want %v", errs, tt.want)
				}
				if tt.want != nil {
					if !bus.IsPermanent(errs[0]) {
						t.Errorf("%v is not permanent", errs[0])
					}
					return
				}
				expect(t, "handled", seen.all(), []paid{{7}})
			})
		})
	}
}

// byValue has methods with value receivers; it is published and handled both as a value and as a pointer.
type byValue struct{ N int }

func (byValue) EventName() string  { return "orders.value" }
func (e byValue) EventKey() string { return fmt.Sprint(e.N) }

func TestPointersAndValues(t *testing.T) {
	t.Parallel()
	for _, share := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			tr := memory.New(memory.Config{Share: share})
			var values, pointers, own record[string]
			b := run(t, bus.Config{Transport: tr}, func(b *bus.Bus) {
				bus.Handle(b, "values", func(ctx context.Context, e byValue) error {
					d, _ := bus.DeliveryFrom(ctx)
					values.add(fmt.Sprint(e.N, d.Message().Key))
					return nil
				})
				bus.Handle(b, "pointers", func(_ context.Context, e *byValue) error { pointers.add(fmt.Sprint(e.N)); return nil })
				bus.Handle(b, "own", func(_ context.Context, e *pointer) error { own.add(fmt.Sprint(e.N)); return nil })
			})
			publish(t, b, byValue{1}, &byValue{2}, &pointer{3})
			synctest.Wait()
			expect(t, "values", len(values.all()), 2)
			expect(t, "pointers", len(pointers.all()), 2)
			expect(t, "own", own.all(), []string{"3"})
			if err := b.Publish(t.Context(), (*byValue)(nil)); !errors.Is(err, bus.ErrInvalid) {
				t.Errorf("nil pointer: %v", err)
			}
		})
	}
}

// note is a Protocol Buffers message with a name.
type note struct{ wrapperspb.StringValue }

func (*note) EventName() string { return "orders.note" }

// nested embeds a pointer that is nil in a new value.
type nested struct{ *wrapperspb.StringValue }

func (nested) EventName() string { return "orders.nested" }

var bothCodecs = []codec.Codec{protobuf.Codec, codec.JSON}

func TestProtobufAndJSONInOneGroup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		var types, notes record[string]
		var s spy
		b := run(t, bus.Config{Transport: tr, Codecs: bothCodecs, Middleware: []bus.Middleware{swallow, s.middleware}}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(ctx context.Context, e *note) error {
				d, _ := bus.DeliveryFrom(ctx)
				notes.add(e.GetValue())
				types.add(d.Message().ContentType)
				return nil
			})
			bus.Handle(b, "g", func(ctx context.Context, e paid) error {
				d, _ := bus.DeliveryFrom(ctx)
				types.add(d.Message().ContentType)
				return nil
			})
			bus.Handle(b, "g", func(context.Context, nested) error { return nil })
		})
		publish(t, b, &note{wrapperspb.StringValue{Value: "hello"}}, paid{1}) //nolint:govet // a literal, not a copy
		synctest.Wait()
		expect(t, "notes", notes.all(), []string{"hello"})
		expect(t, "content types", len(types.all()), 2)
		bad := []transport.Message{
			{ID: "1", Name: "orders.note", ContentType: "application/x-protobuf", Payload: []byte("\xff\xff")},
			{ID: "2", Name: "orders.paid", ContentType: "application/x-protobuf", Payload: []byte("\x0a\x01x")},
			{ID: "3", Name: "orders.nested", ContentType: "application/x-protobuf", Payload: []byte("\x0a\x01x")},
		}
		for _, m := range bad {
			foreign(t, tr, "orders", m)
		}
		synctest.Wait()
		for i, err := range s.errs.all()[2:] {
			if !errors.Is(err, bus.ErrDecode) {
				t.Errorf("bad message %d: %v", i, err)
			}
		}
		expect(t, "outcomes", len(s.errs.all()), 5)
	})
}

func FuzzDecode(f *testing.F) {
	f.Add("orders.paid", 1, "application/json", []byte(`{"N":1}`))
	f.Add("orders.paid", 0, "", []byte(`null`))
	f.Add("orders.paid", 2, "application/json; charset=utf-8", []byte(`{"N":1e400}`))
	f.Add("orders.note", 1, "application/x-protobuf", []byte("\x0a\x05hello"))
	f.Add("orders.nested", 1, "application/x-protobuf", []byte("\x0a\x05hello"))
	f.Add("orders.note", 1, "application/json", []byte(`{"value":"x"}`))
	f.Add("", -5, ";", []byte(nil))
	handle := deliverer(f)
	f.Fuzz(func(t *testing.T, name string, version int, contentType string, payload []byte) {
		err := handle(&transport.Message{ID: "x", Name: name, Version: version, ContentType: contentType, Payload: payload})
		if err == nil {
			return
		}
		known := errors.Is(err, bus.ErrDecode) || errors.Is(err, bus.ErrVersion) || errors.Is(err, bus.ErrNoName)
		if !known || !bus.IsPermanent(err) {
			t.Errorf("%q version %d, %q, %q: %v", name, version, contentType, payload, err)
		}
		if errors.Is(err, bus.ErrDecode) && contentType == "application/json" && name == "orders.paid" && json.Unmarshal(payload, new(paid)) == nil {
			t.Errorf("%q is good JSON, but: %v", payload, err)
		}
	})
}

// deliverer returns the chain of a bus that takes paid, note and nested.
func deliverer(t testing.TB) func(*transport.Message) error {
	var chain bus.Handler
	b := newBus(t, bus.Config{Codecs: bothCodecs, Middleware: []bus.Middleware{func(next bus.Handler) bus.Handler {
		chain = next
		return next
	}}})
	bus.Handle(b, "g", func(context.Context, paid) error { return nil })
	bus.Handle(b, "g", func(context.Context, *note) error { return nil })
	bus.Handle(b, "g", func(context.Context, nested) error { return nil })
	start(t, b)
	return func(m *transport.Message) error {
		return chain(context.Background(), bus.NewDelivery(m, "orders", "g", 1))
	}
}
