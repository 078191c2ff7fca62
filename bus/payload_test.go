package bus_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
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
			if _, again := ids.LoadOrStore(d.ID, true); again {
				t.Errorf("id %s came twice", d.ID)
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
