// Package telemetryfx measures and traces the bus of an fx application that package config/configfx configures:
//
//	fx.New(
//		configfx.Module("shop.yaml"),
//		busfx.Module,
//		telemetryfx.Module,
//	)
package telemetryfx

import (
	"fmt"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/fx"

	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
)

// Module provides *telemetry.Telemetry, by the telemetry.Config, the trace.TracerProvider and the metric.MeterProvider that
// the application provides, if any, and what it has for the chains of the bus. Where the transport tells how far groups
// are behind, that is observed until the application stops.
var Module = fx.Module("postbus/telemetry", fx.Provide(
	newTelemetry,
	fx.Annotate((*telemetry.Telemetry).Middleware, fx.ResultTags(`name:"postbus.telemetry"`)),
	fx.Annotate((*telemetry.Telemetry).Publishing, fx.ResultTags(`name:"postbus.telemetry"`)),
), fx.Invoke(observeLag))

type params struct {
	fx.In
	Config telemetry.Config     `optional:"true"`
	Tracer trace.TracerProvider `optional:"true"`
	Meter  metric.MeterProvider `optional:"true"`
}

func newTelemetry(p params) (*telemetry.Telemetry, error) {
	cfg := p.Config
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = p.Tracer
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = p.Meter
	}
	return telemetry.New(cfg)
}

func observeLag(lc fx.Lifecycle, t *telemetry.Telemetry, tr transport.Transport) error {
	reporter, ok := tr.(transport.StatusReporter)
	if !ok {
		return nil
	}
	lag, err := t.Lag(reporter)
	if err != nil {
		return fmt.Errorf("telemetryfx: %w", err)
	}
	lc.Append(fx.StopHook(lag.Unregister))
	return nil
}
