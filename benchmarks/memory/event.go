package memory

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"

	"github.com/postbus/postbus/bus"
)

// placed is the event of all cases: two strings and an int64.
type placed struct {
	OrderID  string `json:"order_id"`
	Customer string `json:"customer"`
	Cents    int64  `json:"cents"`
}

func (placed) EventName() string { return "orders.placed" }

// keyedPlaced is placed with a key.
type keyedPlaced placed

func (keyedPlaced) EventName() string  { return "orders.placed" }
func (e keyedPlaced) EventKey() string { return e.OrderID }

// keys is how many different order ids there are.
const keys = 1000

var orderIDs = func() (ids [keys]string) {
	for i := range ids {
		ids[i] = "order-" + strconv.Itoa(1000+i)
	}
	return ids
}()

// event returns the i-th event of a run. No two are equal, so that nothing can be computed ahead.
func event(i int) placed {
	return placed{OrderID: orderIDs[i%keys], Customer: "customer-4711", Cents: int64(i) + 1}
}

func keyedEvent(i int) keyedPlaced { return keyedPlaced(event(i)) }

// sink is the handler of all cases, ours and the peers'. It verifies with one addition a message that each of the n
// events has come once: their cents are all different, and add up to a known total.
type sink struct {
	cents atomic.Int64
	want  int64
	done  chan struct{}
}

func newSink(n int) *sink {
	return &sink{want: int64(n) * (int64(n) + 1) / 2, done: make(chan struct{})}
}

func (s *sink) handle(cents int64) error {
	if s.cents.Add(cents) == s.want {
		close(s.done)
	}
	return nil
}

// wait returns when all events have come.
func (s *sink) wait(ctx context.Context) error {
	select {
	case <-s.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("messages are missing: got %d cents of %d: %w", s.cents.Load(), s.want, ctx.Err())
	}
}

// verify is called after everything was shut down: nothing may have come twice.
func (s *sink) verify() error {
	if got := s.cents.Load(); got != s.want {
		return fmt.Errorf("got %d cents, want %d", got, s.want)
	}
	return nil
}

// orderly is a sink that also looks after the order within each key.
type orderly struct {
	*sink
	last     [keys]atomic.Int64
	disorder atomic.Int64
}

func (s *orderly) handle(cents int64) error {
	if s.last[(cents-1)%keys].Swap(cents) > cents {
		s.disorder.Add(1)
	}
	return s.sink.handle(cents)
}

var (
	_ bus.Event = placed{}
	_ bus.Keyed = keyedPlaced{}
)
