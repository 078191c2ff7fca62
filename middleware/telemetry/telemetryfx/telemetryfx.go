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
	nometric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	notrace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport"
)

// Module provides *telemetry.Telemetry, by the telemetry.Config, the trace.TracerProvider and the metric.MeterProvider that
// the application provides, if any, and what it has for the chains of the bus. Where the transport tells how far groups
// are behind, that is observed until the application stops. The key telemetry of the configuration leaves out signals; without
// any, nothing is around deliveries.
var Module = fx.Module("postbus/telemetry", fx.Provide(
	newTelemetry,
	fx.Annotate(aroundDeliveries, fx.ParamTags("", `optional:"true"`), fx.ResultTags(`name:"postbus.telemetry"`)),
	fx.Annotate(aroundPublishing, fx.ParamTags("", `optional:"true"`), fx.ResultTags(`name:"postbus.telemetry"`)),
), fx.Invoke(observeLag))

type params struct {
	fx.In
	Config telemetry.Config     `optional:"true"`
	Tracer trace.TracerProvider `optional:"true"`
	Meter  metric.MeterProvider `optional:"true"`
	File   *config.Config       `optional:"true"`
}

func newTelemetry(p params) (*telemetry.Telemetry, error) {
	cfg := p.Config
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = p.Tracer
	}
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = p.Meter
	}
	if p.File != nil {
		if cfg.System == "" {
			cfg.System = p.File.Telemetry.System
		}
		if !p.File.Telemetry.Signals.Traces() {
			cfg.TracerProvider = notrace.NewTracerProvider()
		}
		if !p.File.Telemetry.Signals.Metrics() {
			cfg.MeterProvider = nometric.NewMeterProvider()
		}
	}
	return telemetry.New(cfg)
}

// silent reports whether the configuration wants no signal.
func silent(file *config.Config) bool {
	return file != nil && !file.Telemetry.Signals.Traces() && !file.Telemetry.Signals.Metrics()
}

func aroundDeliveries(t *telemetry.Telemetry, file *config.Config) bus.Middleware {
	if silent(file) {
		return nil
	}
	return t.Middleware()
}

func aroundPublishing(t *telemetry.Telemetry, file *config.Config) bus.PublishMiddleware {
	if silent(file) {
		return nil
	}
	return t.Publishing()
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
