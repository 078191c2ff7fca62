// Package bushealth serves the health of a bus by HTTP, for probes, load balancers and people.
//
//	mux.Handle("/health/", bushealth.Handler(b))
//	// GET /health/live    for a liveness probe
//	// GET /health/ready   for a readiness probe
//	// GET /health/        everything that is known, as JSON
package bushealth

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/postbus/postbus/bus"
)

// timeout bounds the questions to the transport.
const timeout = 5 * time.Second

// Report is the JSON that Handler answers with.
type Report struct {
	// Status is "ok"; "degraded" if the bus is ready, but something keeps messages from being handled; or "failing".
	Status string `json:"status"`
	// State is that of bus.Health.
	State string `json:"state"`
	// Problems are what is wrong, in words; empty if nothing is.
	Problems []string `json:"problems,omitempty"`
	// Groups by name; the probes leave them out.
	Groups map[string]Group `json:"groups,omitempty"`
}

// Group is bus.GroupHealth.
type Group struct {
	Paused   string  `json:"paused,omitempty"`
	Trouble  string  `json:"trouble,omitempty"`
	InFlight int     `json:"in_flight"`
	Topics   []Topic `json:"topics,omitempty"`
}

// Topic is transport.GroupStatus, with times in seconds.
type Topic struct {
	Topic      string  `json:"topic"`
	Partition  int     `json:"partition,omitempty"`
	Owner      string  `json:"owner,omitempty"`
	Lag        int     `json:"lag"`
	LagAge     float64 `json:"lag_age"`
	StalledBy  int     `json:"stalled_by,omitempty"`
	StalledFor float64 `json:"stalled_for,omitempty"`
	Err        string  `json:"error,omitempty"`
}

// Handler answers by the end of the path:
//
//   - live: 200, or 503 if b has failed and its program must be started again. It asks nobody.
//   - ready: 200, or 503 while b.Ready returns an error. It costs a round trip to the transport.
//   - anything else: the whole bus.Health, with 200, or 503 while b is not ready. It costs what bus.Health costs, and shows
//     error texts: it is not for everybody.
//
// The answer is a Report. Questions to the transport are given up after 5 seconds, which counts as a failure.
func Handler(b *bus.Bus) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		var report Report
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/live"):
			report = newReport(bus.Health{State: b.State(), Failed: b.Err()}, b.Err())
		case strings.HasSuffix(path, "/ready"):
			report = newReport(bus.Health{State: b.State()}, b.Ready(ctx))
		default:
			h := b.Health(ctx)
			report = newReport(h, h.Ready())
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Cache-Control", "no-store")
		if report.Status == failing {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		out := json.NewEncoder(w)
		out.SetIndent("", "  ")
		_ = out.Encode(report) // the caller has gone, else
	})
}

const failing = "failing"

// newReport makes a Report of h, which fails because of err, if that is not nil.
func newReport(h bus.Health, err error) Report {
	r := Report{Status: "ok", State: h.State}
	for _, concern := range h.Concerns() {
		r.Status, r.Problems = "degraded", append(r.Problems, concern.Error())
	}
	if err != nil {
		r.Status, r.Problems = failing, append(strings.Split(err.Error(), "\n"), r.Problems...)
	}
	for _, g := range h.Groups {
		if r.Groups == nil {
			r.Groups = map[string]Group{}
		}
		group := Group{Paused: text(g.Paused), Trouble: text(g.Trouble), InFlight: g.InFlight}
		for _, s := range g.Topics {
			group.Topics = append(group.Topics, Topic{
				Topic: s.Topic, Partition: s.Partition, Owner: s.Owner, Lag: s.Lag, LagAge: s.LagAge.Seconds(),
				StalledBy: s.StalledBy, StalledFor: s.StalledFor.Seconds(), Err: text(s.Err),
			})
		}
		r.Groups[g.Name] = group
	}
	return r
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
