package sqlite_test

import (
	"path/filepath"
	"testing"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	"github.com/postbus/postbus/transport"
)

// TestWatermillAccepts: each transport has connections of its own to one file.
func TestWatermillAccepts(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off"
	sqllogtest.Accept(t, func(t testing.TB) transport.Transport {
		tr, err := transport.Open(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		return tr
	})
}
