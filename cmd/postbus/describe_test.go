package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/describe"
)

func TestDescribe(t *testing.T) {
	t.Parallel()
	shop := describe.Program{Description: bus.Description{Name: "shop", Groups: []bus.GroupDescription{{
		Name: "billing", Events: []bus.EventDescription{{Name: "orders.placed\x1b[2J", Version: 1, Topic: "orders"}},
	}}}}
	server := httptest.NewServer(describe.Handler(func() describe.Program { return shop }))
	t.Cleanup(server.Close)
	p := program{t: t}
	if out := p.ok("describe", server.URL); out != escapeLines(describe.Mermaid(shop)) || strings.Contains(out, "\x1b") {
		t.Errorf("printed %q", out)
	}
	if out := p.ok("describe", server.URL+"/?format=mermaid", "--format", "asyncapi"); !strings.Contains(out, `"asyncapi": "3.0.0"`) {
		t.Errorf("printed %q", out)
	}
	p.fails(exitUsage, []string{`--format "svg" must be mermaid or asyncapi`}, "describe", server.URL, "--format", "svg")
	p.fails(exitUsage, []string{"takes the URL of a running program"}, "describe", "./examples/shop")
	p.fails(exitUsage, []string{"describe takes URL, and got 0"}, "describe")
}

func TestDescribeSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	p := program{t: t}
	mux := http.NewServeMux()
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>\x1b") })
	server := httptest.NewServer(mux)
	defer server.Close()
	p.fails(exitFailure, []string{"/page", `no description: it is "text/html`, `<html>\x1b`}, "describe", strings.Replace(server.URL, "//", "//ada:secret@", 1)+"/page")
	p.fails(exitFailure, []string{"404 Not Found", "page not found"}, "describe", server.URL+"/none")
	p.fails(exitFailure, []string{"describe http://127.0.0.1:1", "refused"}, "describe", "http://127.0.0.1:1") // where nobody listens
}
