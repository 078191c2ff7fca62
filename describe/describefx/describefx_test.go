package describefx_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/describe"
	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{}

func (placed) EventName() string { return "orders.placed" }

type paid struct{}

func (paid) EventName() string { return "payments.paid" }

type billing struct{}

func (*billing) charge(context.Context, placed) error { return nil }

func TestTheWiringIsDescribed(t *testing.T) {
	t.Parallel()
	tr := memory.New(memory.Config{})
	defer tr.Close()
	var p describe.Program
	app := fx.New(
		fx.Populate(&p), // before what it describes
		describefx.Module,
		describefx.Publishes("billing", paid{}),
		describefx.Publishes("desk", placed{}),
		busfx.Handle("billing", (*billing).charge),
		busfx.Module,
		fx.Provide(func() *billing { return &billing{} }, func() transport.Transport { return tr }),
		fx.Supply(slog.New(slog.DiscardHandler), bus.Config{Topic: func(name string) string { return "on-" + name }}),
		fx.NopLogger,
	)
	if err := app.Err(); err != nil {
		t.Fatal(err)
	}
	diagram := describe.Mermaid(p)
	for _, want := range []string{
		`module_desk -->|"orders.placed"| topic_on_2dorders_2eplaced`, `topic_on_2dorders_2eplaced -->|"orders.placed"| group_billing`,
		`group_billing -->|"payments.paid"| topic_on_2dpayments_2epaid`,
	} {
		if !strings.Contains(diagram, want) {
			t.Errorf("no %q in\n%s", want, diagram)
		}
	}
}
