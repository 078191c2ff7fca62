package bus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/codec/protobuf"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// blob is an event that is its payload.
type blob []byte

func (blob) EventName() string { return "blobs.large" }

type rawCodec struct{}

func (rawCodec) ContentType() string           { return "application/octet-stream" }
func (rawCodec) Encodes(v any) bool            { _, ok := v.(blob); return ok }
func (rawCodec) Marshal(v any) ([]byte, error) { return v.(blob), nil }
func (rawCodec) Unmarshal(data []byte, v any) error {
	*v.(*blob) = data
	return nil
}

func TestLargePayload(t *testing.T) {
	t.Parallel()
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<20) // 64 MiB
	got := make(chan []byte, 1)
	b := run(t, bus.Config{Codecs: []codec.Codec{rawCodec{}}}, func(b *bus.Bus) {
		bus.Handle(b, "g", func(_ context.Context, e blob) error { got <- e; return nil })
	})
	publish(t, b, blob(data))
	if !bytes.Equal(<-got, data) {
		t.Error("the payload has changed")
	}
}

func TestPublishFromManyGoroutines(t *testing.T) {
	t.Parallel()
	const publishers, each = 8, 200
	ids := sync.Map{}
	var done sync.WaitGroup
	done.Add(publishers * each * 3)
	b := run(t, bus.Config{}, func(b *bus.Bus) {
		handle := func(ctx context.Context) error {
			d, _ := bus.DeliveryFrom(ctx)
			if _, again := ids.LoadOrStore(d.Message().ID, true); again {
				t.Errorf("id %s came twice", d.Message().ID)
			}
			done.Done()
			return nil
		}
		bus.Handle(b, "g", func(ctx context.Context, _ paid) error { return handle(ctx) })
		bus.Handle(b, "g", func(ctx context.Context, _ placed) error { return handle(ctx) })
		bus.Handle(b, "g", func(ctx context.Context, _ shipped) error { return handle(ctx) })
	})
	for p := range publishers {
		go func() {
			for n := range each {
				if err := b.Publish(context.Background(), paid{n}, placed{fmt.Sprint(p), n}, shipped{n}); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	done.Wait()
}

// A foreign message without a content type is taken for what the bus would have made of the event, whatever the order of
// the codecs.
func TestNoContentTypeBesideProtobuf(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{})
	b, err := bus.New(bus.Config{Transport: tr, Codecs: []codec.Codec{protobuf.Codec, codec.JSON}})
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan placed, 1)
	bus.Handle(b, "g", func(_ context.Context, e placed) error { got <- e; return nil })
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	foreign := transport.Message{ID: "1", Name: "orders.placed", Payload: []byte(`{"order":"o"}`)}
	if err := tr.Publish(t.Context(), "orders", []transport.Message{foreign}); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-got:
		if e.Order != "o" {
			t.Errorf("decoded %+v", e)
		}
	case <-time.After(time.Minute):
		t.Error("the message was not handled")
	}
	if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
		t.Error(err)
	}
}
