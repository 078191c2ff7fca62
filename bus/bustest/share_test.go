package bustest_test

import (
	"context"
	"errors"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bustest"
	"github.com/postbus/postbus/transport/memory"
)

func TestRunOnATransportWhereAnotherBusPublishesByReference(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{Share: true})
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	})
	other, err := bus.New(bus.Config{Transport: tr})
	if err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := make(chan Placed, 1)
	bustest.Run(t, func(b *bus.Bus) {
		bus.Handle(b, "billing", func(_ context.Context, e Placed) error { got <- e; return nil })
	}, bustest.Config(func(cfg *bus.Config) { cfg.Transport = tr }))
	want := Placed{OrderID: "o1"}
	if err := errors.Join(other.Publish(t.Context(), want), other.Stop(t.Context())); err != nil {
		t.Fatal(err)
	}
	if e := <-got; e != want {
		t.Errorf("got %v, want %v", e, want)
	}
}
