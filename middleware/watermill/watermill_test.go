package watermill_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware/watermill"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var errFailed = errors.New("failed")

func delivery() *bus.Delivery {
	return bus.NewDelivery(&transport.Message{
		ID: "1", Name: "orders.placed", CorrelationID: "c", Key: "k", Metadata: map[string]string{"a": "b"},
		Payload: []byte("{}"), Value: "value",
	}, "orders", "billing", 1)
}

// pass lets a delivery pass adapted middleware, the first outermost, and a handler.
func pass(ctx context.Context, d *bus.Delivery, h bus.Handler, m ...message.HandlerMiddleware) error {
	chain := make([]bus.Middleware, len(m))
	for i := range m {
		chain[i] = watermill.Adapt(m[i])
	}
	return bus.Chain(chain...)(h)(ctx, d)
}

func TestRecoverer(t *testing.T) {
	t.Parallel()
	err := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { panic("oh") }, middleware.Recoverer)
	recovered, ok := errors.AsType[middleware.RecoveredPanicError](err)
	if !ok || recovered.V != "oh" || !strings.Contains(recovered.Stacktrace, "watermill_test.go") {
		t.Errorf("got %v, want the panic with the handler's stack", err)
	}
}

func TestRetry(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		retry := middleware.Retry{
			MaxRetries: 3, InitialInterval: time.Second, Multiplier: 1, MaxInterval: time.Minute,
			ShouldRetry: func(params middleware.RetryParams) bool { return !bus.IsPermanent(params.Err) },
		}
		tries, begin := 0, time.Now()
		handler := func(_ context.Context, d *bus.Delivery) error {
			if tries++; tries < 3 {
				return errFailed
			}
			return nil
		}
		if err := pass(t.Context(), delivery(), handler, retry.Middleware); err != nil || tries != 3 || time.Since(begin) != 2*time.Second {
			t.Errorf("%d tries in %s ended with %v, want 3 in 2s without error", tries, time.Since(begin), err)
		}
		tries = 0
		always := func(context.Context, *bus.Delivery) error {
			tries++
			return fmt.Errorf("%w the %d. time", errFailed, tries)
		}
		if err := pass(t.Context(), delivery(), always, retry.Middleware); !errors.Is(err, errFailed) || tries != 4 {
			t.Errorf("%d tries ended with %v", tries, err)
		}
		tries = 0
		permanent := func(context.Context, *bus.Delivery) error { tries++; return bus.Permanent(errFailed) }
		if err := pass(t.Context(), delivery(), permanent, retry.Middleware); !bus.IsPermanent(err) || tries != 1 {
			t.Errorf("%d tries of a permanent error ended with %v", tries, err)
		}
	})
}

// Retry outside of Timeout: each try has a context of its own, for each adapted middleware makes its message anew.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		handler := func(ctx context.Context, _ *bus.Delivery) error {
			if err := ctx.Err(); err != nil {
				t.Errorf("a try began with a context that had ended: %v", err)
			}
			if tries++; tries == 3 {
				return nil
			}
			<-ctx.Done()
			return ctx.Err()
		}
		begin := time.Now()
		err := pass(t.Context(), delivery(), handler,
			middleware.Retry{MaxRetries: 5, InitialInterval: time.Second, Multiplier: 1, MaxInterval: time.Second}.Middleware,
			middleware.Timeout(time.Minute))
		if err != nil || tries != 3 || time.Since(begin) != 2*time.Minute+2*time.Second {
			t.Errorf("%d tries in %s ended with %v", tries, time.Since(begin), err)
		}
	})
}

func TestVerdictsPass(t *testing.T) {
	t.Parallel()
	none := func(h message.HandlerFunc) message.HandlerFunc { return h }
	for _, err := range []error{nil, errFailed, bus.Permanent(errFailed), bus.RetryAfter(time.Hour, errFailed)} {
		for _, m := range []message.HandlerMiddleware{none, middleware.Recoverer, middleware.CorrelationID} {
			if got := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { return err }, m, m); got != err {
				t.Errorf("%v became %v", err, got)
			}
		}
	}
}

// inspect is middleware that looks at the message before and after.
func inspect(before, after func(msg *message.Message)) message.HandlerMiddleware {
	return func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			if before != nil {
				before(msg)
			}
			produced, err := h(msg)
			if after != nil {
				after(msg)
			}
			return produced, err
		}
	}
}

func TestTheMiddlewareSeesTheEnvelope(t *testing.T) {
	t.Parallel()
	d := delivery()
	same := func(ctx context.Context, inner *bus.Delivery) error {
		if inner != d || inner.Message() != d.Message() {
			t.Error("a message that nobody changed was copied")
		}
		return nil
	}
	if err := pass(t.Context(), d, same, inspect(func(msg *message.Message) {
		want := "map[a:b correlation_id:c name:orders.placed postbus_key:k]"
		if got := fmt.Sprint(msg.Metadata); msg.UUID != "1" || got != want || string(msg.Payload) != "{}" {
			t.Errorf("got %q %s %s, want metadata %s", msg.UUID, got, msg.Payload, want)
		}
	}, nil)); err != nil {
		t.Error(err)
	}
}

// What middleware changes holds further inside, does not touch the message that others share, and is undone afterwards.
func TestChangesHoldInside(t *testing.T) {
	t.Parallel()
	type contextKey struct{}
	d := delivery()
	original := d.Message()
	change := inspect(func(msg *message.Message) {
		msg.Metadata.Set("added", "yes")
		msg.Metadata.Set("postbus_key", "other")
		msg.Payload = []byte(`{"changed":true}`)
		msg.SetContext(context.WithValue(msg.Context(), contextKey{}, "set"))
	}, nil)
	handler := func(ctx context.Context, d *bus.Delivery) error {
		if d.Message().Metadata["added"] != "yes" || d.Message().Key != "other" || string(d.Message().Payload) != `{"changed":true}` || d.Message().Value != nil ||
			d.Message().Name != "orders.placed" || d.Message().ID != "1" || ctx.Value(contextKey{}) != "set" {
			t.Errorf("the handler got %+v", *d.Message())
		}
		return nil
	}
	if err := pass(t.Context(), d, handler, change); err != nil {
		t.Error(err)
	}
	if d.Message() != original || d.Message().Key != "k" || len(d.Message().Metadata) != 1 {
		t.Errorf("afterwards it is %+v", *d.Message())
	}
	onlyMetadata := inspect(func(msg *message.Message) { msg.UUID = ""; msg.Metadata.Set("added", "yes") }, nil)
	handler = func(_ context.Context, d *bus.Delivery) error {
		if d.Message().Value != "value" || d.Message().ID != "1" {
			t.Errorf("the handler got %+v", *d.Message())
		}
		return nil
	}
	if err := pass(t.Context(), d, handler, onlyMetadata); err != nil {
		t.Error(err)
	}
}

func TestAckAndNack(t *testing.T) {
	t.Parallel()
	ack, nack := func(msg *message.Message) { msg.Ack() }, func(msg *message.Message) { msg.Nack() }
	for name, test := range map[string]struct {
		m    message.HandlerMiddleware
		err  error
		want error
	}{
		"instant ack":       {middleware.InstantAck, errFailed, nil},
		"ack":               {inspect(nil, ack), errFailed, nil},
		"nack":              {inspect(nil, nack), nil, watermill.ErrNacked},
		"nack and an error": {inspect(nack, nil), errFailed, errFailed},
		"neither":           {inspect(nil, nil), errFailed, errFailed},
	} {
		if err := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { return test.err }, test.m); err != test.want {
			t.Errorf("%s: got %v, want %v", name, err, test.want)
		}
	}
}

func TestProducedMessagesAreNotDroppedInSilence(t *testing.T) {
	t.Parallel()
	producer := func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			_, err := h(msg)
			return []*message.Message{message.NewMessage("2", nil)}, err
		}
	}
	err := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { return nil }, producer)
	if !bus.IsPermanent(err) || !strings.Contains(err.Error(), "1 messages") {
		t.Errorf("got %v", err)
	}
}

func TestDelayOnError(t *testing.T) {
	t.Parallel()
	delayed := (&middleware.DelayOnError{InitialInterval: time.Minute, Multiplier: 2, MaxInterval: time.Hour}).Middleware
	err := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { return errFailed }, delayed)
	if d, ok := bus.RetryDelay(err); !ok || d != time.Minute || !errors.Is(err, errFailed) {
		t.Errorf("got %v", err)
	}
	err = pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { return bus.Permanent(errFailed) }, delayed)
	if _, ok := bus.RetryDelay(err); ok || !bus.IsPermanent(err) {
		t.Errorf("a permanent error became %v", err)
	}
	err = pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { return bus.RetryAfter(time.Second, errFailed) }, delayed)
	if d, _ := bus.RetryDelay(err); d != time.Second {
		t.Errorf("what the handler asked for became %v", err)
	}
}

func TestMessagesOfNobody(t *testing.T) {
	t.Parallel()
	copier := func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) { return h(msg.Copy()) } // loses the context
	}
	err := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { t.Error("handled"); return nil }, copier)
	if err == nil || !strings.Contains(err.Error(), "context") {
		t.Errorf("got %v", err)
	}
	with := func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) { return h(msg.CopyWithContext()) }
	}
	handled := false
	if err := pass(t.Context(), delivery(), func(context.Context, *bus.Delivery) error { handled = true; return nil }, with); err != nil || !handled {
		t.Errorf("a copy with its context: handled %t, %v", handled, err)
	}
}

type placed struct {
	OrderID string `json:"order_id"`
}

func (placed) EventName() string { return "orders.placed" }

// In a bus: panics are recovered and retried, and what handlers publish has its origin.
func TestInABus(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		defer tr.Close()
		b, err := bus.New(bus.Config{Name: "shop", Transport: tr, Middleware: []bus.Middleware{
			watermill.Adapt(middleware.CorrelationID),
			watermill.Adapt(middleware.Retry{MaxRetries: 2, InitialInterval: time.Second, Multiplier: 1, MaxInterval: time.Second}.Middleware),
			watermill.Adapt(middleware.Timeout(time.Minute)),
			watermill.Adapt(middleware.Recoverer),
		}})
		if err != nil {
			t.Fatal(err)
		}
		var tries atomic.Int64
		bus.Handle(b, "billing", func(ctx context.Context, e placed) error {
			if tries.Add(1) < 3 {
				panic("not yet")
			}
			d, ok := bus.DeliveryFrom(ctx)
			if !ok || d.Message().Name != "orders.placed" || e.OrderID != "o1" || d.Tries != 3 {
				t.Errorf("got %+v in delivery %+v", e, d)
			}
			return nil
		})
		if err := b.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := b.Publish(t.Context(), placed{"o1"}); err != nil {
			t.Fatal(err)
		}
		if err := tr.WaitIdle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := tries.Load(); n != 3 {
			t.Errorf("%d tries, want 3", n)
		}
		if err := b.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A goroutine that the handler leaves behind publishes with the handler's context while the middleware takes back what it
// has changed. The race detector watches.
func TestChangeIsTakenBackBesideAStraggler(t *testing.T) {
	t.Parallel()
	change := watermill.Adapt(func(h message.HandlerFunc) message.HandlerFunc {
		return func(msg *message.Message) ([]*message.Message, error) {
			msg.Metadata.Set("added", "yes")
			return h(msg)
		}
	})
	var stragglers sync.WaitGroup
	handler := change(func(ctx context.Context, d *bus.Delivery) error {
		ctx = bus.WithDelivery(ctx, d)
		stragglers.Go(func() {
			if bus.CorrelationID(ctx) != "c" {
				t.Error("the straggler lost the correlation id")
			}
		})
		return nil
	})
	for range 100 {
		if err := handler(t.Context(), delivery()); err != nil {
			t.Error(err)
		}
	}
	stragglers.Wait()
}
