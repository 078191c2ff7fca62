package dburl

import (
	"net/url"
	"path/filepath"
	"sync"
	"testing"

	"github.com/postbus/postbus/internal/params"
)

// TestManyOpenANewFile: who comes while another one gives the file its write-ahead log waits.
func TestManyOpenANewFile(t *testing.T) {
	t.Parallel()
	for range 20 {
		u := &url.URL{Scheme: "sqlite", Opaque: filepath.Join(t.TempDir(), "x.db"), RawQuery: "synchronous=off"}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				target, err := Read(u, params.Read(u))
				if err != nil {
					t.Error(err)
					return
				}
				h, err := target.Open(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_ = h.Close()
			})
		}
		wg.Wait()
	}
}
