package middleware_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/transport/memory"
)

func TestLog(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		cfg       middleware.LogConfig
		err       error
		cancelled bool
		level     string
	}{
		"success":          {level: "DEBUG"},
		"failure":          {err: errFlaky, level: "WARN"},
		"retry after":      {err: bus.RetryAfter(time.Hour, errFlaky), level: "WARN"},
		"permanent":        {err: bus.Permanent(errFlaky), level: "ERROR"},
		"stopping":         {err: errFlaky, cancelled: true, level: "DEBUG"},
		"success at info":  {cfg: middleware.LogConfig{Success: slog.LevelInfo}, level: "INFO"},
		"failure at info":  {cfg: middleware.LogConfig{Failure: slog.LevelInfo}, err: errFlaky, level: "INFO"},
		"permanent at 12":  {cfg: middleware.LogConfig{Permanent: slog.Level(12)}, err: bus.Permanent(errFlaky), level: "ERROR+4"},
		"success left out": {cfg: middleware.LogConfig{Success: slog.LevelDebug - 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				tc.cfg.Logger = slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				h := middleware.Log(tc.cfg)(func(_ context.Context, d *bus.Delivery) error {
					d.Tries = 2
					time.Sleep(3 * time.Second)
					if tc.cancelled {
						cancel()
					}
					return tc.err
				})
				if err := h(ctx, delivery()); err != tc.err {
					t.Errorf("got %v, want the handler's %v", err, tc.err)
				}
				if tc.level == "" {
					if out.Len() > 0 {
						t.Errorf("a line below the level: %s", out.Bytes())
					}
					return
				}
				var got map[string]any
				if err := json.Unmarshal(out.Bytes(), &got); err != nil {
					t.Fatalf("want one line: %v in %q", err, out.Bytes())
				}
				for key, want := range map[string]any{
					"level": tc.level, "event": "orders.placed", "id": "m1", "group": "billing", "topic": "orders",
					"attempt": 1., "tries": 2., "correlation_id": "c1", "duration": float64(3 * time.Second),
				} {
					if got[key] != want {
						t.Errorf("%s is %v, want %v", key, got[key], want)
					}
				}
				if tc.err != nil && got["error"] != tc.err.Error() || tc.err == nil && got["error"] != nil {
					t.Errorf("error is %v, want that of the handler, %v", got["error"], tc.err)
				}
			})
		})
	}
}

// TestLogOnce: the bus does not repeat an error, with its stack, that Log has written.
func TestLogOnce(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		chain    []bus.Middleware // outside of Recover
		delivery bus.DeliveryMode
	}{
		"with Log":                  {},
		"with Log, at most once":    {delivery: bus.AtMostOnce},
		"without Log":               {chain: []bus.Middleware{}},
		"without Log, at most once": {chain: []bus.Middleware{}, delivery: bus.AtMostOnce},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				logger := slog.New(slog.NewTextHandler(&out, nil))
				if tc.chain == nil {
					tc.chain = []bus.Middleware{middleware.Log(middleware.LogConfig{Logger: logger})}
				}
				tr := memory.New(memory.Config{})
				defer tr.Close()
				b, err := bus.New(bus.Config{Transport: tr, Logger: logger, Middleware: append(tc.chain, middleware.Recover()),
					Groups: map[string]bus.GroupConfig{"billing": {Delivery: tc.delivery}}})
				if err != nil {
					t.Fatal(err)
				}
				tries := 0
				bus.Handle(b, "billing", func(context.Context, placed) error {
					if tries++; tries == 1 {
						panic("out of order")
					}
					return nil
				})
				if err := errors.Join(b.Start(t.Context()), b.Publish(t.Context(), placed{"o1"}), tr.WaitIdle(t.Context()),
					b.Stop(t.Context())); err != nil {
					t.Fatal(err)
				}
				if n := strings.Count(out.String(), "handler panicked"); n != 1 {
					t.Errorf("the error is there %d times: %s", n, out.String())
				}
			})
		})
	}
}

func TestLogAllocates(t *testing.T) { // not parallel: it counts allocations
	logger := slog.New(slog.NewTextHandler(new(bytes.Buffer), nil)) // from Info on
	wantNoAllocs(t, middleware.Log(middleware.LogConfig{Logger: logger})(innermost()))
}
