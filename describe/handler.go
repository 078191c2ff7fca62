package describe

import (
	"fmt"
	"net/http"
)

// Formats of Handler.
const (
	FormatMermaid  = "mermaid"
	FormatAsyncAPI = "asyncapi"
)

// Handler serves what program returns, asked anew each time: as a Mermaid diagram, or with ?format=asyncapi as an AsyncAPI
// document. It shows the names and the schemas of all events: it is not for everybody. "postbus describe URL" reads it.
func Handler(program func() Program) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
			return
		}
		var text []byte
		var contentType string
		switch format := r.URL.Query().Get("format"); format {
		case "", FormatMermaid:
			text, contentType = []byte(Mermaid(program())), "text/vnd.mermaid; charset=utf-8"
		case FormatAsyncAPI:
			document, err := AsyncAPI(program())
			if err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
			text, contentType = append(document, '\n'), "application/vnd.aai.asyncapi+json;version=3.0.0"
		default:
			http.Error(w, fmt.Sprintf("format %q must be %s or %s", format, FormatMermaid, FormatAsyncAPI), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		_, _ = w.Write(text) // the caller has gone, else
	})
}
