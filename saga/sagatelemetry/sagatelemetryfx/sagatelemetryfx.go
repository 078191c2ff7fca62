// Package sagatelemetryfx measures and traces the sagas of an fx application:
//
//	fx.New(
//		configfx.Module("shop.yaml"),
//		busfx.Module,
//		sagafx.Module,
//		sagatelemetryfx.Module,
//	)
package sagatelemetryfx

import (
	"fmt"

	"go.opentelemetry.io/otel/metric"
	nometric "go.opentelemetry.io/otel/metric/noop"
	"go.opentelemetry.io/otel/trace"
	notrace "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/fx"

	"github.com/postbus/postbus/config"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/saga/sagatelemetry"
)

// Module provides *sagatelemetry.Telemetry, by the trace.TracerProvider and the metric.MeterProvider that the application
// provides, if any, and what package sagafx wants for the orchestrator. Its instances are counted until the application
// stops. The key telemetry of the configuration leaves out signals.
var Module = fx.Module("postbus/sagatelemetry", fx.Provide(
	newTelemetry,
	fx.Annotate((*sagatelemetry.Telemetry).Hook, fx.ResultTags(`name:"postbus.telemetry"`)),
), fx.Invoke(countInstances))

type params struct {
	fx.In
	Tracer trace.TracerProvider `optional:"true"`
	Meter  metric.MeterProvider `optional:"true"`
	File   *config.Config       `optional:"true"`
}

func newTelemetry(p params) (*sagatelemetry.Telemetry, error) {
	cfg := sagatelemetry.Config{TracerProvider: p.Tracer, MeterProvider: p.Meter}
	if p.File != nil && !p.File.Telemetry.Signals.Traces() {
		cfg.TracerProvider = notrace.NewTracerProvider()
	}
	if p.File != nil && !p.File.Telemetry.Signals.Metrics() {
		cfg.MeterProvider = nometric.NewMeterProvider()
	}
	return sagatelemetry.New(cfg)
}

func countInstances(lc fx.Lifecycle, t *sagatelemetry.Telemetry, o *saga.Orchestrator) error {
	if o == nil {
		return nil // its mistakes are reported elsewhere
	}
	instances, err := t.Instances(o)
	if err != nil {
		return fmt.Errorf("sagatelemetryfx: %w", err)
	}
	lc.Append(fx.StopHook(instances.Unregister))
	return nil
}
