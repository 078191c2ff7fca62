// Fx is a program of two modules in an fx application, configured from outside: by shop.yaml and, over it, by variables
// such as POSTBUS_TRANSPORT=amqp://… (see package config).
package main

import (
	"context"
	"fmt"
	"log/slog"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders.placed" }

type Paid struct {
	OrderID string `json:"order_id"`
}

func (Paid) EventName() string { return "payments.paid" }

// Billing is one module.
type Billing struct{ events bus.Publisher }

func NewBilling(events bus.Publisher) *Billing { return &Billing{events} }

func (s *Billing) Charge(ctx context.Context, e Placed) error {
	fmt.Println("charging", e.OrderID)
	return s.events.Publish(ctx, Paid(e))
}

var BillingModule = fx.Module("billing",
	fx.Provide(NewBilling),
	busfx.Handle("billing", (*Billing).Charge),
	busfx.Group("billing", bus.GroupConfig{Workers: 2}), // which shop.yaml overrides
)

// Shipping is another. It ends the program when all is shipped.
type Shipping struct{ shutdown fx.Shutdowner }

func NewShipping(shutdown fx.Shutdowner) *Shipping { return &Shipping{shutdown} }

func (s *Shipping) Ship(_ context.Context, e Paid) error {
	fmt.Println("shipping", e.OrderID)
	return s.shutdown.Shutdown()
}

var ShippingModule = fx.Module("shipping",
	fx.Provide(NewShipping),
	busfx.Handle("shipping", (*Shipping).Ship),
)

// Desk takes orders: it starts after the bus, and stops before it.
type Desk struct{}

func NewDesk(lc fx.Lifecycle, events bus.Publisher, _ *busfx.Running) *Desk {
	lc.Append(fx.StartHook(func(ctx context.Context) error {
		return events.Publish(ctx, Placed{OrderID: "o-1"})
	}))
	return &Desk{}
}

func options() []fx.Option {
	return []fx.Option{
		configfx.Module("examples/fx/shop.yaml"),
		busfx.Module,
		BillingModule,
		ShippingModule,
		fx.Provide(NewDesk),
		fx.Invoke(func(*Desk) {}),
		fx.Supply(slog.New(slog.DiscardHandler)),
		fx.NopLogger,
	}
}

func main() { fx.New(options()...).Run() }
