package bushealth_test

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/bushealth"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type placed struct{ N int }

func (placed) EventName() string { return "orders.placed" }

// slow is a transport whose far side answers when it is told to.
type slow struct {
	*memory.Transport
	ping error
}

func (s *slow) Ping(context.Context) error { return s.ping }

func (s *slow) Status(context.Context) ([]transport.GroupStatus, error) {
	return []transport.GroupStatus{{Topic: "orders", Group: "billing", Owner: "host/1/x", Lag: 3, LagAge: 1500 * time.Millisecond, StalledBy: 7, StalledFor: time.Hour,
		Err: errors.New("no such table")}}, nil
}

func get(t *testing.T, b *bus.Bus, path string) (int, bushealth.Report) {
	t.Helper()
	w := httptest.NewRecorder()
	bushealth.Handler(b).ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	var r bushealth.Report
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%s: %v, %v", path, err, w.Header())
	}
	return w.Code, r
}

func TestHandler(t *testing.T) {
	t.Parallel()
	tr := &slow{Transport: memory.New(memory.Config{})}
	b, err := bus.New(bus.Config{Transport: tr, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	bus.Handle(b, "billing", func(context.Context, placed) error { return nil })
	check := func(when string, live, ready int, status string, problems ...string) bushealth.Report {
		t.Helper()
		if code, _ := get(t, b, "/health/live"); code != live {
			t.Errorf("%s: live is %d, want %d", when, code, live)
		}
		if code, r := get(t, b, "/health/ready"); code != ready || r.Groups != nil {
			t.Errorf("%s: ready is %d with %+v, want %d", when, code, r, ready)
		}
		code, r := get(t, b, "/health/")
		if code != ready || r.Status != status || len(r.Problems) != len(problems) {
			t.Errorf("%s: the whole is %d with %+v", when, code, r)
		}
		for _, p := range problems {
			if !slices.ContainsFunc(r.Problems, func(s string) bool { return strings.Contains(s, p) }) {
				t.Errorf("%s: no problem says %q: %q", when, p, r.Problems)
			}
		}
		return r
	}
	check("before the start", 200, 503, "failing", "bus: not started")
	if err := b.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := check("at work", 200, 200, "degraded", "of process 7, holds messages back for 1h0m0s", `topic "orders": how far it is behind is not known: no such table`)
	want := bushealth.Topic{Topic: "orders", Owner: "host/1/x", Lag: 3, LagAge: 1.5, StalledBy: 7, StalledFor: 3600, Err: "no such table"}
	if g := r.Groups["billing"]; len(g.Topics) != 1 || g.Topics[0] != want {
		t.Errorf("the group is %+v", g)
	}
	tr.ping = errors.New("connection refused")
	check("without the server", 200, 503, "failing", "bus: transport: connection refused")
	tr.ping = nil
	_ = tr.Close()
	<-b.Failed()
	check("failed", 503, 503, "failing", "closed from outside", "receive: transport: closed", "of process 7", "no such table")
	if err := b.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	bushealth.Handler(b).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/health/live", nil))
	if w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
}
