package describe_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postbus/postbus/describe"
)

func TestHandler(t *testing.T) {
	t.Parallel()
	p := program(t)
	document, err := describe.AsyncAPI(p)
	if err != nil {
		t.Fatal(err)
	}
	handler := describe.Handler(func() describe.Program { return p })
	for _, tc := range []struct {
		method, target    string
		status            int
		contentType, body string
	}{
		{http.MethodGet, "/describe", http.StatusOK, "text/vnd.mermaid", describe.Mermaid(p)},
		{http.MethodGet, "/describe?format=mermaid", http.StatusOK, "text/vnd.mermaid", describe.Mermaid(p)},
		{http.MethodGet, "/describe?format=asyncapi", http.StatusOK, "application/vnd.aai.asyncapi+json", string(document) + "\n"},
		{http.MethodGet, "/describe?format=svg", http.StatusBadRequest, "text/plain", `format "svg" must be mermaid or asyncapi` + "\n"},
		{http.MethodPost, "/describe", http.StatusMethodNotAllowed, "text/plain", "method not allowed\n"},
	} {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), tc.method, tc.target, nil))
		if w.Code != tc.status || w.Body.String() != tc.body || !strings.HasPrefix(w.Header().Get("Content-Type"), tc.contentType) {
			t.Errorf("%s %s: %d, %q, %s", tc.method, tc.target, w.Code, w.Header().Get("Content-Type"), w.Body)
		}
	}
}
