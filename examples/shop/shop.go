package main

import (
	"io"
	"log/slog"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/describe/describefx"
	"github.com/postbus/postbus/examples/shop/checkout"
	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/examples/shop/inventory"
	"github.com/postbus/postbus/examples/shop/notifications"
	"github.com/postbus/postbus/examples/shop/orders"
	"github.com/postbus/postbus/examples/shop/payments"
	"github.com/postbus/postbus/examples/shop/shipping"
	"github.com/postbus/postbus/middleware/quarantine/quarantinefx"
	"github.com/postbus/postbus/outbox/outboxfx"
	"github.com/postbus/postbus/saga/sagafx"
	"github.com/postbus/postbus/store/storefx"

	// What POSTBUS_TRANSPORT and POSTBUS_STORE can name.
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)

// shop is the application: this is the only place that knows all modules, and they know each other only by what they
// publish. Where messages travel and where the books are is said by the environment, in the form of os.Environ.
func shop(environ []string, log io.Writer) fx.Option {
	return fx.Options(
		configfx.Load("", environ),
		storefx.Module,
		busfx.Module,
		outboxfx.Module,
		sagafx.Module,
		quarantinefx.Module,
		describefx.Module,

		intake.Module,
		orders.Module,
		checkout.Module,
		inventory.Module,
		payments.Module,
		shipping.Module,
		notifications.Module,

		// Lines of input travel byte by byte as they came.
		fx.Decorate(func(cfg bus.Config) bus.Config {
			cfg.Codecs = []codec.Codec{intake.Codec}
			return cfg
		}),
		fx.Supply(slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn}))),
		fx.NopLogger,

		// A database with much to do takes its time to make the tables.
		fx.StartTimeout(time.Minute),
		fx.StopTimeout(time.Minute),
	)
}
