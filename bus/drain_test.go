package bus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// stopWithin stops b with a deadline and returns the error and how long it took.
func stopWithin(t *testing.T, b *bus.Bus, d time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	began := time.Now()
	err := b.Stop(ctx)
	return time.Since(began), err
}

func startOnly(t *testing.T, b *bus.Bus) {
	t.Helper()
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestDrainLetsHandlersFinish(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		b := newBus(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 2})})
		var seen record[int]
		bus.Handle(b, "g", func(ctx context.Context, e placed) error {
			time.Sleep(10 * time.Second)
			seen.add(e.N)
			if e.N == 1 {
				return b.Publish(ctx, paid{1}) // handlers may publish during the drain
			}
			return nil
		})
		startOnly(t, b)
		publish(t, b, placed{"a", 1}, placed{"a", 2}, placed{"b", 3}, placed{"", 4})
		time.Sleep(time.Second)
		took, err := stopWithin(t, b, time.Minute)
		if err != nil {
			t.Errorf("Stop: %v", err)
		}
		expect(t, "time", took, 9*time.Second)
		expect(t, "handled", len(seen.all()), 2)
		expect(t, "acked", len(tr.ackedIDs()), 2)
		names, attempts := []string{}, 0
		for _, d := range tr.waiting {
			names = append(names, d.Name)
			attempts += d.Attempt
		}
		expect(t, "left", names, []string{"orders.placed", "orders.placed", "orders.paid"})
		expect(t, "attempts", attempts, 3) // nothing was tried
	})
}

func TestDeadlineCancelsHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		b := newBus(t, bus.Config{Transport: tr})
		var cause error
		bus.Handle(b, "g", func(ctx context.Context, e placed) error {
			<-ctx.Done()
			cause = context.Cause(ctx)
			return ctx.Err()
		})
		startOnly(t, b)
		publish(t, b, placed{"a", 1})
		synctest.Wait()
		took, err := stopWithin(t, b, time.Second)
		if err != nil {
			t.Errorf("Stop: %v", err)
		}
		expect(t, "time", took, time.Second)
		if !errors.Is(cause, bus.ErrStopped) {
			t.Errorf("cause: %v", cause)
		}
		expect(t, "settled", tr.settled, []transport.Settlement{{Tag: 1, Outcome: transport.Release}})
	})
}

func TestHandlerThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := memory.New(memory.Config{})
		defer tr.Close()
		b := newBus(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 1})})
		release := make(chan struct{})
		bus.Handle(b, "g", func(context.Context, placed) error { <-release; return errors.New("too late") })
		startOnly(t, b)
		publish(t, b, bus.WithID("stuck", placed{"a", 1}), bus.WithID("waiting", placed{"b", 2}))
		synctest.Wait()
		took, err := stopWithin(t, b, time.Minute)
		expectError(t, err, "orders.placed", "stuck", `"g"`)
		if err != nil && strings.Contains(err.Error(), "waiting") {
			t.Errorf("error names what no handler has begun: %v", err)
		}
		if took < time.Minute || took > time.Minute+2*time.Second {
			t.Errorf("Stop took %v", took)
		}

		var seen record[int]
		run(t, bus.Config{Transport: tr}, func(b *bus.Bus) {
			bus.Handle(b, "g", func(_ context.Context, e placed) error { seen.add(e.N); return nil })
		})
		synctest.Wait()
		expect(t, "handled by the second bus", len(seen.all()), 2)
		close(release)
	})
}

func TestStopWithFailedMessages(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := &broker{}
		b := newBus(t, bus.Config{Transport: tr})
		bus.Handle(b, "g", func(context.Context, placed) error { return bus.RetryAfter(time.Hour, errors.New("no")) })
		startOnly(t, b)
		publish(t, b, placed{"a", 1}, placed{"a", 2}, placed{"", 3})
		synctest.Wait()
		took, err := stopWithin(t, b, time.Minute)
		if err != nil || took != 0 {
			t.Errorf("Stop: %v after %v", err, took)
		}
		var attempts []int
		for _, d := range tr.waiting {
			attempts = append(attempts, d.Attempt)
		}
		expect(t, "attempts of what is left", attempts, []int{2, 1, 2})
		time.Sleep(2 * time.Hour) // no timer is left
	})
}

func TestSettleFailsAtStop(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		settle func(ctx context.Context) error
		fine   bool
		took   time.Duration
	}{
		{"hangs until its context ends", func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, false, 6 * time.Second},
		{"hangs", func(context.Context) error { time.Sleep(time.Hour); return nil }, false, 8 * time.Second},
		{"is closed", func(context.Context) error { return transport.ErrClosed }, false, 0},
		{"fails for two seconds", failFor(2 * time.Second), true, 5 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := &broker{settle: func(ctx context.Context, _ []transport.Settlement) error { return tt.settle(ctx) }}
				b := newBus(t, bus.Config{Transport: tr})
				bus.Handle(b, "g", func(context.Context, placed) error { return nil })
				startOnly(t, b)
				publish(t, b, placed{"a", 1})
				synctest.Wait()
				took, err := stopWithin(t, b, time.Second)
				if (err == nil) != tt.fine {
					t.Errorf("Stop: %v", err)
				}
				if took > tt.took {
					t.Errorf("Stop took %v, want at most %v", took, tt.took)
				}
				if tt.fine {
					expect(t, "acked", len(tr.ackedIDs()), 1)
				}
				time.Sleep(3 * time.Hour) // even what hangs has ended
			})
		})
	}
}

// TestStopWaitsForASlowTransport: while its own context has time left, a settlement may take longer than after that.
func TestStopWaitsForASlowTransport(t *testing.T) {
	t.Parallel()
	for _, limit := range []time.Duration{10 * time.Second, time.Minute, 0} {
		synctest.Test(t, func(t *testing.T) {
			tr := &broker{settle: func(ctx context.Context, _ []transport.Settlement) error {
				select {
				case <-time.After(9 * time.Second):
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}}
			b := newBus(t, bus.Config{Transport: tr})
			bus.Handle(b, "g", func(context.Context, placed) error { return errors.New("no") })
			startOnly(t, b)
			publish(t, b, placed{"a", 1})
			synctest.Wait() // it is to come again, which Stop tells the transport
			ctx := context.Background()
			if limit > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, limit)
				defer cancel()
			}
			if err := b.Stop(ctx); err != nil {
				t.Errorf("Stop within %v: %v", limit, err)
			}
			expect(t, "settled", tr.settled, []transport.Settlement{{Tag: 1, Outcome: transport.Requeue}})
		})
	}
}

// TestStopThatIsCancelled: who does not want to wait any longer waits for a transport that hangs no longer than after a
// deadline.
func TestStopThatIsCancelled(t *testing.T) {
	t.Parallel()
	for _, after := range []time.Duration{0, 7 * time.Second} {
		synctest.Test(t, func(t *testing.T) {
			tr := &broker{settle: func(ctx context.Context, _ []transport.Settlement) error { <-ctx.Done(); return ctx.Err() }}
			b := newBus(t, bus.Config{Transport: tr})
			bus.Handle(b, "g", func(context.Context, placed) error { return errors.New("no") })
			startOnly(t, b)
			publish(t, b, placed{"a", 1})
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			time.AfterFunc(after, cancel)
			began := time.Now()
			err := b.Stop(ctx)
			if took := time.Since(began); err == nil || took > max(after, 6*time.Second) {
				t.Errorf("Stop, cancelled after %v: %v after %v", after, err, took)
			}
		})
	}
}

// failFor fails until d after its first call.
func failFor(d time.Duration) func(context.Context) error {
	var until time.Time
	return func(context.Context) error {
		if until.IsZero() {
			until = time.Now().Add(d)
		}
		if time.Now().Before(until) {
			return errors.New("not now")
		}
		return nil
	}
}

// TestStopWhileTopicsShareAWorker: what waits for its turn among the topics of a group goes back, and is not stuck.
func TestStopWhileTopicsShareAWorker(t *testing.T) {
	t.Parallel()
	for _, ignores := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			tr := &broker{}
			b := newBus(t, bus.Config{Transport: tr, Groups: group("g", bus.GroupConfig{Workers: 1})})
			release := make(chan struct{})
			var seen record[string]
			handle := func(ctx context.Context, name string) error {
				seen.add(name)
				select {
				case <-time.After(5 * time.Second):
				case <-release:
				}
				if ignores {
					<-release
				}
				return nil
			}
			bus.Handle(b, "g", func(ctx context.Context, e paid) error { return handle(ctx, "paid") })
			bus.Handle(b, "g", func(ctx context.Context, e shipped) error { return handle(ctx, "shipped") })
			startOnly(t, b)
			publish(t, b, paid{1})
			synctest.Wait()
			publish(t, b, paid{2}, shipped{3})
			synctest.Wait()
			_, err := stopWithin(t, b, time.Minute)
			expect(t, "handled", len(seen.all()), 1)
			if ignores {
				expect(t, "handlers named as stuck", strings.Count(fmt.Sprint(err), "id "), 1)
			} else if err != nil {
				t.Errorf("Stop: %v", err)
			}
			close(release)
			synctest.Wait()
			expect(t, "handled after Stop", len(seen.all()), 1)
		})
	}
}
