package bushealth_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bushealth"
	"github.com/postbus/postbus/transport/memory"
)

func ExampleHandler() {
	t := memory.New(memory.Config{})
	defer t.Close()
	b, err := bus.New(bus.Config{Transport: t})
	if err != nil {
		panic(err)
	}
	bus.Handle(b, "billing", func(context.Context, placed) error { return nil })

	mux := http.NewServeMux()
	mux.Handle("/health/", bushealth.Handler(b)) // live, ready, and all there is to know

	ready := func() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health/ready", nil))
		fmt.Print(w.Code, " ", w.Body)
	}
	ready()
	if err := b.Start(context.Background()); err != nil {
		panic(err)
	}
	defer b.Stop(context.Background())
	ready()
	// Output:
	// 503 {
	//   "status": "failing",
	//   "state": "not started",
	//   "problems": [
	//     "bus: not started"
	//   ]
	// }
	// 200 {
	//   "status": "ok",
	//   "state": "running"
	// }
}
