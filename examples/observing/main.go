// Observing has a bus whose metrics Prometheus reads, whose health probes ask for, and that draws itself.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bushealth"
	"github.com/postbus/postbus/describe"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/middleware/telemetry"
	"github.com/postbus/postbus/transport/memory"
)

type Placed struct {
	OrderID string `json:"order_id"`
}

func (Placed) EventName() string { return "orders.placed" }

// observed returns a bus that is measured, and what serves its metrics, its health and its wiring.
func observed(t *memory.Transport) (*bus.Bus, http.Handler, error) {
	registry := prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(registry), exporter.WithoutScopeInfo(), exporter.WithoutTargetInfo())
	if err != nil {
		return nil, nil, err
	}
	tel, err := telemetry.New(telemetry.Config{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	if err != nil {
		return nil, nil, err
	}
	b, err := bus.New(bus.Config{
		Transport:  t,
		Publishing: []bus.PublishMiddleware{tel.Publishing()},
		Middleware: middleware.Standard(middleware.StandardConfig{
			Telemetry: tel.Middleware(),
			Log:       middleware.LogConfig{Logger: slog.New(slog.DiscardHandler)}, // errors are expected here
		}),
	})
	if err != nil {
		return nil, nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/health/", bushealth.Handler(b))
	mux.Handle("/describe", describe.Handler(func() describe.Program { return describe.Program{Description: b.Describe()} }))
	return b, mux, nil
}

func main() {
	ctx := context.Background()
	t := memory.New(memory.Config{})
	defer t.Close()
	b, handler, err := observed(t)
	if err != nil {
		log.Fatal(err)
	}
	var tries atomic.Int64
	bus.Handle(b, "billing", func(_ context.Context, e Placed) error {
		if tries.Add(1) == 1 {
			return errors.New("busy")
		}
		return nil
	})
	if err := b.Start(ctx); err != nil {
		log.Fatal(err)
	}
	for _, id := range []string{"o-1", "o-2", "o-3"} {
		if err := b.Publish(ctx, Placed{OrderID: id}); err != nil {
			log.Fatal(err)
		}
	}
	if err := t.WaitIdle(ctx); err != nil {
		log.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") // a service has a port of its own
	if err != nil {
		log.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	show("http://" + listener.Addr().String())
	if err := errors.Join(server.Shutdown(ctx), b.Stop(ctx)); err != nil {
		log.Fatal(err)
	}
}

// show prints what a probe sees, some of what Prometheus does, and what "postbus describe" prints.
func show(at string) {
	ready, err := http.Get(at + "/health/ready")
	if err != nil {
		log.Fatal(err)
	}
	ready.Body.Close()
	fmt.Println("ready:", ready.Status)
	metrics, err := http.Get(at + "/metrics")
	if err != nil {
		log.Fatal(err)
	}
	defer metrics.Body.Close()
	for lines := bufio.NewScanner(metrics.Body); lines.Scan(); {
		name, rest, _ := strings.Cut(lines.Text(), "{")
		if strings.HasPrefix(name, "postbus_") && !strings.HasPrefix(name, "postbus_age") {
			fmt.Println(name, rest[strings.LastIndex(rest, " ")+1:])
		}
	}
	wiring, err := http.Get(at + "/describe")
	if err != nil {
		log.Fatal(err)
	}
	defer wiring.Body.Close()
	if _, err := io.Copy(os.Stdout, wiring.Body); err != nil {
		log.Fatal(err)
	}
}
