package bus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestFailedWhenTheTransportIsClosedUnderneath(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{})
	b := newBus(t, bus.Config{Transport: tr})
	bus.Handle(b, "g", handlePaid)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.Failed():
		t.Fatal("failed before anything happened")
	default:
	}
	expect[any](t, "Err", b.Err(), nil)
	if err := tr.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-b.Failed():
	case <-time.After(time.Minute):
		t.Fatal("a bus without its transport has not failed")
	}
	expectError(t, b.Err(), `group "g" on topic "orders"`, "closed from outside")
	if !errors.Is(b.Err(), transport.ErrClosed) {
		t.Errorf("Err = %v, want one that matches transport.ErrClosed", b.Err())
	}
	if err := b.Stop(context.Background()); err != nil {
		t.Errorf("Stop = %v", err)
	}
}

func TestRunReturnsTheFailure(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{})
	b := newBus(t, bus.Config{Transport: tr})
	bus.Handle(b, "g", func(context.Context, paid) error { return tr.Close() })
	ended := make(chan error, 1)
	go func() { ended <- b.Run(context.Background()) }()
	for deadline := time.Now().Add(time.Minute); b.Publish(t.Context(), paid{}) != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the bus takes nothing")
		}
	}
	select {
	case err := <-ended:
		expectError(t, err, "closed from outside")
	case <-time.After(time.Minute):
		t.Fatal("Run goes on without a transport")
	}
}

func TestAStopIsNoFailure(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	bus.Handle(b, "g", handlePaid)
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect[any](t, "Err", b.Err(), nil)
}

func TestCheckSaysWhatStartWould(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{Groups: group("idle", bus.GroupConfig{})})
	place := handleTwice[paid](b, "g")
	err := b.Check()
	expectError(t, err, place, `"idle", which handles nothing`)
	if start := b.Start(t.Context()); start == nil || start.Error() != err.Error() {
		t.Errorf("Start says\n%v\nand Check\n%v", start, err)
	}
	good := newBus(t, bus.Config{})
	bus.Handle(good, "g", handlePaid)
	if err := good.Check(); err != nil {
		t.Errorf("Check = %v", err)
	}
}
