package bus_test

import (
	"context"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/postbus/postbus/bus"
)

// A payload that was handled must not live on because it shares an allocation with others of the queue or the publisher.
func TestLargePayloadsAreNotKept(t *testing.T) {
	t.Parallel()
	const messages, most = 40, 2 // the last one can be in some hands yet
	payloads := make(chan weak.Pointer[byte], messages)
	b := run(t, bus.Config{}, func(b *bus.Bus) {
		bus.Handle(b, "g", func(ctx context.Context, _ placed) error {
			d, _ := bus.DeliveryFrom(ctx)
			payloads <- weak.Make(&d.Message().Payload[0])
			return nil
		})
	})
	var all []weak.Pointer[byte]
	for range messages {
		publish(t, b, placed{Order: strings.Repeat("0", 256<<10)})
		all = append(all, <-payloads)
	}
	alive := func() (n int) {
		runtime.GC()
		for _, p := range all {
			if p.Value() != nil {
				n++
			}
		}
		return n
	}
	for end := time.Now().Add(time.Minute); alive() > most; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d payloads live on after they were handled", alive(), messages)
		}
	}
}
