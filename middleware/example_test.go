package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// Charged is an event of the examples.
type Charged struct{ OrderID string }

func (Charged) EventName() string { return "payments.charged" }

// shop runs a bus with a chain and one handler, publishes an event, and waits until it is done.
func shop(chain []bus.Middleware, handle func(context.Context, Charged) error) {
	ctx := context.Background()
	t := memory.New(memory.Config{})
	defer t.Close()
	b, err := bus.New(bus.Config{Transport: t, Middleware: chain, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	bus.Handle(b, "shipping", handle)
	if err := errors.Join(b.Start(ctx), b.Publish(ctx, Charged{"o1"}), t.WaitIdle(ctx), b.Stop(ctx)); err != nil {
		fmt.Println(err)
	}
}

// printed is a Quarantine that prints.
type printed struct{}

func (printed) Put(_ context.Context, d *bus.Delivery, cause error) error {
	fmt.Printf("%s for %s: %v\n", d.Message().Name, d.Group, cause)
	return nil
}

func ExampleStandard() {
	chain := middleware.Standard(middleware.StandardConfig{
		Log:        middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)},
		Quarantine: printed{},
		Attempts:   2,                                                                 // deliveries, each with
		Retry:      middleware.RetryConfig{Attempts: 3, Delay: 10 * time.Millisecond}, // tries
		Timeout:    5 * time.Second,
	})
	tries := 0
	shop(chain, func(context.Context, Charged) error {
		tries++
		return errors.New("the printer is on fire")
	})
	fmt.Println(tries, "tries")
	// Output:
	// payments.charged for shipping: the printer is on fire
	// 6 tries
}

// conflict is an error of the examples.
type conflict struct{ error }

func ExampleRetry() {
	retry := middleware.Retry(middleware.RetryConfig{
		Attempts: 5,
		Delay:    time.Millisecond,
		Rules: []middleware.Rule{
			middleware.Is(os.ErrNotExist, middleware.Never),         // to quarantine now
			middleware.Is(os.ErrDeadlineExceeded, middleware.Later), // no tries in process
			middleware.As[conflict](middleware.AtOnce),              // without a pause
		},
	})
	tries := 0
	shop([]bus.Middleware{retry}, func(context.Context, Charged) error {
		if tries++; tries < 3 {
			return errors.New("connection reset")
		}
		return nil
	})
	fmt.Println(tries, "tries")
	// Output: 3 tries
}

// The message leaves the worker between deliveries. After the last delay it goes to quarantine.
func ExampleDelayedRetry() {
	chain := middleware.Standard(middleware.StandardConfig{
		Log:        middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)},
		Quarantine: printed{},
		Delays:     []time.Duration{10 * time.Millisecond, 20 * time.Millisecond}, // rather 10s, 1m, 10m, 1h
		Retry:      middleware.RetryConfig{Attempts: 1},
	})
	shop(chain, func(ctx context.Context, _ Charged) error {
		d, _ := bus.DeliveryFrom(ctx)
		return fmt.Errorf("delivery %d: gateway is down", d.Attempt)
	})
	// Output: payments.charged for shipping: delivery 3: gateway is down
}

func ExampleRecover() {
	handle := middleware.Recover()(func(context.Context, *bus.Delivery) error {
		panic("index out of range")
	})
	err := handle(context.Background(), bus.NewDelivery(&transport.Message{ID: "1"}, "orders", "billing", 1))
	if p, ok := errors.AsType[*middleware.PanicError](err); ok {
		fmt.Println("panicked:", p.Value)
		fmt.Println("has a stack:", len(p.Stack) > 0)
	}
	// Output:
	// panicked: index out of range
	// has a stack: true
}

func ExampleQuarantine() {
	// printed implements Quarantine, but keeps nothing: a real one must, or the message is lost.
	quarantined := middleware.Quarantined(printed{}, middleware.QuarantineConfig{
		Attempts: 3,
		Logger:   slog.New(slog.DiscardHandler),
	})
	shop([]bus.Middleware{quarantined}, func(context.Context, Charged) error {
		return bus.Permanent(errors.New("no such order"))
	})
	// Output: payments.charged for shipping: no such order
}

func ExampleThrottle() {
	throttle := middleware.Throttle(middleware.ThrottleConfig{Rate: 100, Burst: 2}) // a second
	handle := throttle(func(context.Context, *bus.Delivery) error { return nil })
	begin := time.Now()
	for range 4 {
		if err := handle(context.Background(), bus.NewDelivery(&transport.Message{ID: "1"}, "orders", "billing", 1)); err != nil {
			fmt.Println(err)
		}
	}
	fmt.Println("at least 20 ms:", time.Since(begin) >= 20*time.Millisecond)
	// Output: at least 20 ms: true
}

func ExampleBreaker() {
	breaker := middleware.Breaker(middleware.BreakerConfig{Failures: 2, OpenFor: time.Minute})
	handle := breaker(func(context.Context, *bus.Delivery) error {
		fmt.Println("calling the gateway")
		return errors.New("gateway is down")
	})
	for range 3 {
		err := handle(context.Background(), bus.NewDelivery(&transport.Message{ID: "1"}, "orders", "billing", 1))
		fmt.Println(errors.Is(err, middleware.ErrOpen))
	}
	// Output:
	// calling the gateway
	// false
	// calling the gateway
	// false
	// true
}

func ExampleTimeout() {
	handle := middleware.Timeout(middleware.TimeoutConfig{Timeout: time.Millisecond})(func(ctx context.Context, _ *bus.Delivery) error {
		<-ctx.Done() // a handler that takes too long
		return ctx.Err()
	})
	err := handle(context.Background(), bus.NewDelivery(&transport.Message{ID: "1"}, "orders", "billing", 1))
	fmt.Println(errors.Is(err, context.DeadlineExceeded))
	// Output: true
}

// A message of a foreign publisher has no correlation id: it gets the one of Watermill's metadata, or else its own id.
func ExampleCorrelation() {
	handle := middleware.Correlation()(func(_ context.Context, d *bus.Delivery) error {
		fmt.Println(d.Message().CorrelationID)
		return nil
	})
	foreign := &transport.Message{ID: "1", Metadata: map[string]string{middleware.CorrelationKey: "request-7"}}
	_ = handle(context.Background(), bus.NewDelivery(foreign, "orders", "billing", 1))
	// Output: request-7
}
