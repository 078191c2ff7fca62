package bustest_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
	"github.com/postbus/postbus/transport"
)

type named struct{ name string }

func (e named) EventName() string { return e.name }

type shipped struct{ OrderID string }

func (shipped) EventName() string { return "orders.shipped" }
func (shipped) EventVersion() int { return 2 }

// shippedElsewhere is the event as another module declares it.
type shippedElsewhere struct{ OrderID string }

func (shippedElsewhere) EventName() string { return "orders.shipped" }
func (shippedElsewhere) EventVersion() int { return 2 }

type shippedOld struct{ OrderID string }

func (shippedOld) EventName() string { return "orders.shipped" }

func TestRecorderRecordsThroughWrappers(t *testing.T) {
	t.Parallel()
	var r bustest.Recorder
	at := time.Now().Add(time.Hour)
	cause := bus.NewDelivery(&transport.Message{ID: "cause", CorrelationID: "root"}, "orders", "g", 1)
	err := r.Publish(bus.WithDelivery(t.Context(), cause),
		bus.After(time.Minute, bus.WithID("m1", Placed{OrderID: "o1"})),
		bus.At(at, shipped{"o1"}),
		bus.WithMetadata(map[string]string{"k": "v"}, &Placed{OrderID: "o2"}),
		Paid{"o1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := bustest.Published[Placed](&r), []Placed{{OrderID: "o1"}, {OrderID: "o2"}}; !reflect.DeepEqual(got, want) {
		t.Errorf("Published[Placed] = %v, want %v", got, want)
	}
	if got := bustest.Published[*Placed](&r); len(got) != 2 || got[0].OrderID != "o1" || got[1].OrderID != "o2" {
		t.Errorf("Published[*Placed] = %v", got)
	}
	m := r.Messages()
	if m[0].ID != "m1" || m[0].Delay() != time.Minute || m[0].Key != "o1" || m[0].CausationID != "cause" || m[0].CorrelationID != "root" {
		t.Errorf("After and WithID: %+v", m[0])
	}
	if !m[1].NotBefore.Equal(at) || m[1].Version != 2 || m[1].Topic != "orders" {
		t.Errorf("At: %+v", m[1])
	}
	if m[2].Metadata["k"] != "v" || m[2].Delay() != 0 {
		t.Errorf("WithMetadata: %+v", m[2])
	}
	if m[3].Topic != "billing" {
		t.Errorf("the events of a batch are out of order: %+v", m)
	}
}

func TestPublishedMatchesNameAndVersion(t *testing.T) {
	t.Parallel()
	var r bustest.Recorder
	if err := r.Publish(t.Context(), shipped{"o1"}); err != nil {
		t.Fatal(err)
	}
	if got := bustest.Published[shippedElsewhere](&r); len(got) != 1 || got[0].OrderID != "o1" {
		t.Errorf("another type of the event: %v", got)
	}
	if got := bustest.Published[shippedOld](&r); len(got) != 0 {
		t.Errorf("another version of the event: %v", got)
	}
}

func TestRecorderRefusesWhatABusRefuses(t *testing.T) {
	t.Parallel()
	for name, e := range map[string]bus.Event{
		"nil":               nil,
		"nil pointer":       (*Placed)(nil),
		"nil, wrapped":      bus.After(time.Second, nil),
		"no name":           named{""},
		"empty part":        named{"orders..placed"},
		"empty id":          bus.WithID("", Paid{}),
		"NUL in an id":      bus.WithID("a\x00", Paid{}),
		"NUL in a key":      Placed{OrderID: "\x00"},
		"NUL in a metadata": bus.WithMetadata(map[string]string{"k": "\x00"}, Paid{}),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var r bustest.Recorder
			err := r.Publish(t.Context(), Paid{}, e)
			if !errors.Is(err, bus.ErrInvalid) && !errors.Is(err, transport.ErrInvalid) {
				t.Errorf("Publish: %v, want an error that says it is invalid", err)
			}
			if m := r.Messages(); len(m) != 0 {
				t.Errorf("recorded all the same: %+v", m)
			}
		})
	}
}

func TestRecorderFails(t *testing.T) {
	t.Parallel()
	down := errors.New("the broker is down")
	r := bustest.Recorder{Err: down}
	if err := r.Publish(t.Context(), Paid{}); !errors.Is(err, down) {
		t.Errorf("Publish: %v, want %v", err, down)
	}
	if m := r.Messages(); len(m) != 0 {
		t.Errorf("recorded all the same: %+v", m)
	}
}

func TestRecorderIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	var r bustest.Recorder
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				if err := r.Publish(t.Context(), Paid{fmt.Sprint(i, j)}); err != nil {
					t.Error(err)
				}
				_ = bustest.Published[Paid](&r)
			}
		})
	}
	wg.Wait()
	if n := len(bustest.Published[Paid](&r)); n != 80 {
		t.Errorf("%d events, want 80", n)
	}
}

func TestRecorderOutlivesABubble(t *testing.T) {
	t.Parallel()
	var r bustest.Recorder
	publish := func(ctx context.Context) {
		if err := r.Publish(ctx, bus.After(time.Hour, Paid{})); err != nil {
			t.Error(err)
		}
	}
	publish(t.Context())
	synctest.Test(t, func(t *testing.T) { publish(t.Context()) })
	publish(t.Context())
	if n := len(bustest.Published[Paid](&r)); n != 3 {
		t.Errorf("%d events, want 3", n)
	}
}
