package rabbitmq_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

// shelf is a quarantine.
type shelf struct {
	mu      sync.Mutex
	entries []entry
}

type entry struct {
	message transport.Message
	attempt int
	cause   error
}

func (s *shelf) Put(_ context.Context, d *bus.Delivery, cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, entry{*d.Message(), d.Attempt, cause})
	return nil
}

func (s *shelf) all() []entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]entry(nil), s.entries...)
}

// startBus starts a bus with the standard chain, in which a message goes to quarantine after three deliveries.
func startBus(t *testing.T, tr transport.Transport, topic string, s *shelf, handle func(context.Context, placed) error) *bus.Bus {
	t.Helper()
	b, err := bus.New(bus.Config{
		Name: "shop", Transport: tr, Logger: quiet(), Topic: func(string) string { return topic },
		Middleware: middleware.Standard(middleware.StandardConfig{
			Quarantine: s, Attempts: 3, Retry: middleware.RetryConfig{Attempts: 1}, Log: middleware.LogConfig{Logger: quiet()},
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(b, "billing", handle)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stopBus(t, b) })
	return b
}

func stopBus(t *testing.T, b *bus.Bus) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer cancel()
	return b.Stop(ctx)
}

// TestForeignMessageToQuarantine: what no handler can take is kept with its raw bytes.
func TestForeignMessageToQuarantine(t *testing.T) {
	t.Parallel()
	topic := unique(t, "billing")
	var s shelf
	startBus(t, openQuiet(t, brokerURL(t), nil), topic, &s, func(_ context.Context, e placed) error {
		t.Errorf("handled: %+v", e)
		return nil
	})
	raw := []byte{0xff, 0, '{'}
	for _, kind := range []string{"", "orders.placed"} { // no name at all, and a payload that is none of its event
		err := adminChannel(t).PublishWithContext(t.Context(), topic, "", false, false, amqp.Publishing{
			Headers: amqp.Table{"n": int32(7)}, ContentType: "application/json", Type: kind, Body: raw,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "both are in quarantine", func() bool { return len(s.all()) == 2 })
	for _, e := range s.all() {
		want := bus.ErrDecode
		if e.message.Name == "" {
			want = bus.ErrNoName
		}
		if !errors.Is(e.cause, want) || string(e.message.Payload) != string(raw) || e.message.Metadata["n"] != "7" || e.attempt != 1 {
			t.Errorf("got %+v, want the raw bytes and %v", e, want)
		}
	}
}

// TestPoison handles a message that ends the process again and again, and one that fails beside it.
func TestPoison(t *testing.T) {
	t.Parallel()
	for _, single := range []bool{false, true} {
		t.Run(fmt.Sprintf("single active consumer %t", single), func(t *testing.T) {
			t.Parallel()
			topic := unique(t, "billing")
			life := func() *rabbitmq.Transport {
				return openQuiet(t, brokerURL(t), func(c *rabbitmq.Config) { c.SingleActiveConsumer = single })
			}
			first := life()
			subscribe(t, first, topic, "billing").Close()
			publish(t, first, topic, transport.Message{ID: "poison", Name: "orders.placed", ContentType: "application/json", Payload: []byte(`{}`)})
			first.Close()
			var s, dead shelf
			tried := make(chan struct{}, 10)
			for n := range 3 {
				tr := life()
				crashed := make(chan struct{})
				b := startBus(t, tr, topic, &dead, func(context.Context, placed) error {
					tried <- struct{}{}
					<-crashed
					return errors.New("the process is gone")
				})
				select {
				case <-tried:
				case <-time.After(patience):
					t.Fatalf("life %d: the message did not come", n+1)
				}
				rabbitmq.Crash(tr)
				close(crashed)
				stopBus(t, b)
			}
			startBus(t, life(), topic, &s, func(context.Context, placed) error {
				t.Error("it was handled once more")
				return nil
			})
			eventually(t, "it is in quarantine", func() bool { return len(s.all()) == 1 })
			if e := s.all()[0]; e.message.ID != "poison" || e.attempt != 4 || !errors.Is(e.cause, middleware.ErrAttempts) {
				t.Errorf("got %+v", e)
			}
		})
	}
}

// TestClassicQueuesCountNothing: what differs from quorum queues is not silent.
func TestClassicQueuesCountNothing(t *testing.T) {
	t.Parallel()
	topic := unique(t, "g")
	var logged lockedBuffer
	for n := range 4 {
		tr := openQuiet(t, brokerURL(t), func(c *rabbitmq.Config) {
			c.Queue, c.Logger = rabbitmq.Classic, slog.New(slog.NewTextHandler(&logged, nil))
		})
		sub := subscribe(t, tr, topic, "g")
		if n == 0 {
			publish(t, tr, topic, messages("m", 1)...)
		}
		if d := receive(t, sub, 1)[0]; d.Attempt != min(n+1, 2) {
			t.Errorf("attempt %d in life %d", d.Attempt, n+1)
		}
		rabbitmq.Crash(tr)
	}
	if said := logged.String(); strings.Count(said, "classic queues do not count") != 4 {
		t.Errorf("each transport is to warn once: %s", said)
	}
}

// TestStopWhileBlocked stops a bus whose handler publishes, while the broker holds publishers up and reads nothing.
func TestStopWhileBlocked(t *testing.T) {
	t.Parallel()
	p := newProxy(t, brokerURL(t))
	tr := openQuiet(t, p.url, nil)
	topic := unique(t, "billing")
	other := unique(t)
	var b *bus.Bus
	handling, blocked, published := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	b, err := bus.New(bus.Config{Name: "shop", Transport: tr, Logger: quiet(), Topic: func(name string) string {
		return map[string]string{"orders.placed": topic, "orders.paid": other}[name]
	}})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(b, "billing", func(ctx context.Context, e placed) error {
		close(handling)
		<-blocked
		err := b.Publish(ctx, paid{})
		published <- err
		return err
	})
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Publish(t.Context(), placed{}); err != nil {
		t.Fatal(err)
	}
	<-handling
	p.block("low on memory")
	eventually(t, "the block is seen", func() bool { return tr.Status().Publish.Blocked != "" })
	close(blocked)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	start := time.Now()
	t.Log("Stop: ", b.Stop(ctx)) // nil, unless the handler takes more than a second to hear of its context's end
	if err := <-published; !errors.Is(err, bus.ErrStopped) && !errors.Is(err, context.Canceled) {
		t.Errorf("Publish while the broker held publishers up: %v", err)
	}
	tr.Close()
	if took := time.Since(start); took > time.Minute {
		t.Errorf("Stop and Close took %v while the broker blocked", took)
	}
	p.cut() // the broker has not heard of the end
	d := receive(t, subscribe(t, openQuiet(t, brokerURL(t), nil), topic, "billing"), 1)[0]
	if d.Name != "orders.placed" || d.Attempt != 2 {
		t.Errorf("%s, attempt %d came again; want the message that was not handled, attempt 2", d.Name, d.Attempt)
	}
}

type paid struct{}

func (paid) EventName() string { return "orders.paid" }
