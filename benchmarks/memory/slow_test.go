package memory

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A million messages for a consumer that takes 100 ms each: 28 hours of the bubble's clock. The publisher does nothing
// but publish, so that all that keeps the heap from growing is back-pressure.
func TestMemoryStaysFlatUnderASlowConsumer(t *testing.T) {
	const (
		perMessage = 100 * time.Millisecond
		allowed    = 32 << 20
	)
	messages := 1_000_000
	if testing.Short() {
		messages = 50_000
	}
	for _, share := range []bool{true, false} {
		name := "json"
		if share {
			name = "reference"
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := memory.New(memory.Config{Share: share})
				defer tr.Close()
				b, err := bus.New(bus.Config{
					Transport: tr, Middleware: chain(), Groups: map[string]bus.GroupConfig{groupName(0): {Workers: 1}},
				})
				if err != nil {
					t.Fatal(err)
				}
				s := newSink(messages)
				bus.Handle(b, groupName(0), func(_ context.Context, e placed) error {
					time.Sleep(perMessage)
					return s.handle(e.Cents)
				})
				if err := b.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				begin, before, growth := time.Now(), heap(), int64(0)
				for i := range messages {
					if err := b.Publish(t.Context(), event(i)); err != nil {
						t.Fatal(err)
					}
					if i%(messages/20) == 0 {
						growth = max(growth, heap()-before)
					}
				}
				if published, least := time.Since(begin), time.Duration(messages-10_000)*perMessage; published < least {
					t.Errorf("publishing took %v, want at least %v: there was no back-pressure", published, least)
				}
				if err := s.wait(t.Context()); err != nil {
					t.Error(err)
				}
				growth = max(growth, heap()-before)
				if err := b.Stop(t.Context()); err != nil {
					t.Error(err)
				}
				if err := s.verify(); err != nil {
					t.Error(err)
				}
				if growth > allowed {
					t.Errorf("the heap grew by %d KiB, allowed are %d", growth>>10, allowed>>10)
				}
				t.Logf("%d messages in %v of the bubble's clock; the heap grew by %d KiB at most", messages, time.Since(begin), growth>>10)
			})
		})
	}
}

// heap returns how many bytes are reachable.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
