package bus_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// wire is a transport that keeps what is published. Its zero value takes everything.
type wire struct {
	broker
	sent []transport.Message
}

func newWire(caps transport.Capabilities) *wire {
	w := &wire{}
	w.caps = caps
	w.broker.publish = func(_ string, msgs []transport.Message) error {
		w.broker.mu.Lock()
		defer w.broker.mu.Unlock()
		w.sent = append(w.sent, msgs...)
		return nil
	}
	return w
}

var allCaps = transport.Capabilities{Delay: true, Target: true}

// published returns the messages that a bus makes of events.
func published(t *testing.T, ctx context.Context, events ...bus.Event) []transport.Message {
	t.Helper()
	w := newWire(allCaps)
	b := run(t, bus.Config{Transport: w}, func(*bus.Bus) {})
	if err := b.Publish(ctx, events...); err != nil {
		t.Fatal(err)
	}
	return w.sent
}

func TestEnvelope(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := published(t, t.Context(), placed{"o1", 7})[0]
		if m.ID == "" || m.CorrelationID != m.ID {
			t.Errorf("id %q, correlation id %q", m.ID, m.CorrelationID)
		}
		m.ID, m.CorrelationID = "", ""
		expect(t, "payload", string(m.Payload), `{"order":"o1","n":7}`)
		m.Payload = nil
		if !m.Time.Equal(time.Now()) {
			t.Errorf("time %v, want %v", m.Time, time.Now())
		}
		m.Time = time.Time{}
		expect(t, "the rest", m, transport.Message{Name: "orders.placed", Version: 1, Key: "o1", ContentType: "application/json"})
	})
}

func TestWrappers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		own := map[string]string{"a": "1", "b": "2"}
		e := placed{"o1", 7}
		tests := []struct {
			event    bus.Event
			id       string
			metadata map[string]string
			due      time.Duration
		}{
			{e, "", nil, 0},
			{bus.After(time.Hour, e), "", nil, time.Hour},
			{bus.After(0, e), "", nil, 0},
			{bus.After(time.Hour, bus.After(time.Minute, e)), "", nil, time.Hour},
			{bus.At(now.Add(time.Hour), e), "", nil, time.Hour},
			{bus.At(time.Time{}, e), "", nil, 0},
			{bus.At(now.Add(time.Hour), bus.After(time.Minute, e)), "", nil, time.Hour},
			{bus.WithID("x", e), "x", nil, 0},
			{bus.WithID("x", bus.WithID("y", e)), "x", nil, 0},
			{bus.WithMetadata(own, e), "", own, 0},
			{bus.WithMetadata(nil, e), "", nil, 0},
			{bus.WithMetadata(map[string]string{}, e), "", nil, 0},
			{
				bus.WithMetadata(map[string]string{"a": "outer"}, bus.WithMetadata(own, e)), "",
				map[string]string{"a": "outer", "b": "2"}, 0,
			},
			{
				bus.WithMetadata(own, bus.After(time.Minute, bus.WithID("z", bus.WithMetadata(map[string]string{"c": "3"}, e)))), "z",
				map[string]string{"a": "1", "b": "2", "c": "3"}, time.Minute,
			},
		}
		for i, tt := range tests {
			if bus.Unwrap(tt.event) != bus.Event(e) {
				t.Errorf("case %d: Unwrap = %v", i, bus.Unwrap(tt.event))
			}
			expect(t, "name", tt.event.EventName(), "orders.placed")
			m := published(t, t.Context(), tt.event)[0]
			if tt.id != "" {
				expect(t, fmt.Sprintf("case %d: id", i), m.ID, tt.id)
			}
			if !maps.Equal(m.Metadata, tt.metadata) || (m.Metadata == nil) != (tt.metadata == nil) {
				t.Errorf("case %d: metadata %#v, want %#v", i, m.Metadata, tt.metadata)
			}
			var due time.Duration
			if !m.NotBefore.IsZero() {
				due = m.NotBefore.Sub(now)
			}
			expect(t, fmt.Sprintf("case %d: due", i), due, tt.due)
			expect(t, "key, version", fmt.Sprintf("%s %d", m.Key, m.Version), "o1 1")
		}
		expect(t, "the caller's metadata", own, map[string]string{"a": "1", "b": "2"})
	})
}

type (
	panicking struct{ bus.Event }
	badName   struct{ Name string }
	badKey    struct{ Key string }
	badVer    struct{ V int }
	noJSON    struct{ C chan int }
	pointer   struct{ N int }
)

func (b badName) EventName() string { return b.Name }
func (badKey) EventName() string    { return "orders.key" }
func (b badKey) EventKey() string   { return b.Key }
func (badVer) EventName() string    { return "orders.version" }
func (b badVer) EventVersion() int  { return b.V }
func (noJSON) EventName() string    { return "orders.chan" }
func (*pointer) EventName() string  { return "orders.pointer" }

// TestOneBadEventPublishesNothing: neither of its topic nor of others.
func TestOneBadEventPublishesNothing(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		bad     bus.Event
		invalid bool
		text    string
	}{
		{"nil", nil, true, "event 2 is nil"},
		{"nil pointer", (*pointer)(nil), true, "event 2 is nil"},
		{"nil in a wrapper", bus.After(time.Second, nil), true, "event 2 is nil"},
		{"EventName panics", panicking{}, true, "panicked"},
		{"empty name", badName{""}, true, "must not be empty"},
		{"name with an empty part", badName{"a..b"}, true, "a..b"},
		{"name with a NUL", badName{"a\x00b"}, true, "control"},
		{"name that is not UTF-8", badName{"a\xff"}, true, "UTF-8"},
		{"topic with a space", badName{"a .b"}, true, "a .b"},
		{"long name", badName{strings.Repeat("x", 256)}, true, "256 bytes"},
		{"key with a NUL", badKey{"a\x00b"}, true, "Key"},
		{"key that is not UTF-8", badKey{"\xff"}, true, "Key"},
		{"version 0", badVer{0}, true, "version 0"},
		{"version -1", badVer{-1}, true, "version -1"},
		{"cannot be encoded", noJSON{}, false, "chan int"},
		{"empty id", bus.WithID("", paid{}), true, "empty id"},
		{"metadata with a NUL", bus.WithMetadata(map[string]string{"a": "\x00"}, paid{}), true, "metadata"},
		{"metadata that is not UTF-8", bus.WithMetadata(map[string]string{"\xff": ""}, paid{}), true, "metadata"},
		{"metadata without a key", bus.WithMetadata(map[string]string{"": "x"}, paid{}), true, "metadata"},
		{"delay that the transport lacks", bus.After(time.Hour, paid{}), false, "later"},
		{"payload above the limit", badKey{strings.Repeat("x", 2000)}, false, "too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := newWire(transport.Capabilities{MaxPayload: 1000})
			b := run(t, bus.Config{Transport: w}, func(*bus.Bus) {})
			err := b.Publish(t.Context(), paid{1}, shipped{2}, tt.bad, paid{3})
			expectError(t, err, tt.text)
			if err != nil && errors.Is(err, bus.ErrInvalid) != tt.invalid {
				t.Errorf("errors.Is(%v, ErrInvalid) = %v", err, !tt.invalid)
			}
			err = b.Publish(t.Context(), tt.bad)
			if err == nil || errors.Is(err, bus.ErrInvalid) != tt.invalid {
				t.Errorf("alone: errors.Is(%v, ErrInvalid) = %v", err, !tt.invalid)
			}
			if len(w.sent) != 0 {
				t.Errorf("published: %v", w.sent)
			}
			if err := b.Publish(t.Context(), paid{4}); err != nil || len(w.sent) != 1 {
				t.Errorf("a good event afterwards: %v, %d sent", err, len(w.sent))
			}
		})
	}
}

func TestPublishToSeveralTopics(t *testing.T) {
	t.Parallel()
	var topics []string
	w := &broker{}
	var batches [][]string
	w.publish = func(topic string, msgs []transport.Message) error {
		topics = append(topics, topic)
		var names []string
		for _, m := range msgs {
			names = append(names, m.Name+string(m.Payload))
		}
		batches = append(batches, names)
		if topic == "orders" {
			return transport.ErrOutcomeUnknown
		}
		return nil
	}
	b := run(t, bus.Config{Transport: w}, func(*bus.Bus) {})
	err := b.Publish(t.Context(), paid{1}, shipped{2}, paid{3}, shipped{4}, placed{"k", 5})
	if !errors.Is(err, transport.ErrOutcomeUnknown) {
		t.Errorf("Publish: %v", err)
	}
	expectError(t, err, "orders")
	if strings.Contains(fmt.Sprint(err), "parcels") {
		t.Errorf("error names what was published: %v", err)
	}
	expect(t, "topics", topics, []string{"orders", "parcels"})
	expect(t, "batches", batches, [][]string{
		{`orders.paid{"N":1}`, `orders.paid{"N":3}`, `orders.placed{"order":"k","n":5}`},
		{`parcels.shipped{"N":2}`, `parcels.shipped{"N":4}`},
	})
}

func TestBackPressureEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{Capacity: 2})
		var seen record[int]
		release := make(chan struct{})
		b := run(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 1, Prefetch: 1})}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e paid) error {
				<-release
				seen.add(e.N)
				return nil
			})
		})
		publish(t, b, paid{1})
		synctest.Wait() // in the handler's hands
		publish(t, b, paid{2}, paid{3})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := b.Publish(ctx, paid{4}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Publish into a full queue: %v", err)
		}
		expect(t, "waited", time.Since(began), time.Minute)
		go func() {
			time.Sleep(time.Second)
			close(release)
		}()
		publish(t, b, paid{5})
		synctest.Wait()
		expect(t, "handled", seen.all(), []int{1, 2, 3, 5})
	})
}

// A handler that publishes what cannot be published would fail again and again: the error is a verdict.
func TestInvalidPublishIsPermanent(t *testing.T) {
	t.Parallel()
	for _, share := range []bool{false, true} {
		tr := memory.New(memory.Config{Share: share, MaxPayload: 64})
		b, err := bus.New(bus.Config{Transport: tr})
		if err != nil {
			t.Fatal(err)
		}
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		for name, e := range map[string]bus.Event{
			"NUL in the key": placed{Order: "a\x00"},
			"nil":            nil,
			"empty id":       bus.WithID("", placed{}),
		} {
			if err := b.Publish(t.Context(), e); !bus.IsPermanent(err) {
				t.Errorf("share=%t, %s: %v is not permanent", share, name, err)
			}
		}
		if err := b.Publish(t.Context(), placed{Order: strings.Repeat("x", 65)}); !share && !bus.IsPermanent(err) {
			t.Errorf("too large: %v is not permanent", err)
		}
		if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
			t.Error(err)
		}
	}
}
