package sqlite_test

import (
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/internal/sqllog/sqllogtest"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) {
	sqllogtest.Child()
	goleak.VerifyTestMain(m)
}

func TestLog(t *testing.T) {
	t.Parallel()
	sqllogtest.Suite{
		URL:  func(t testing.TB) string { return "sqlite:" + filepath.Join(t.TempDir(), "x.db") + "?synchronous=off" },
		Rows: sqllogtest.CountRows(`"`),
	}.Run(t)
}

// A killed process does not lose what it wrote, also without synchronous; the machine stays up.
func conformanceURL(t testing.TB) string {
	return "sqlite:" + filepath.Join(t.TempDir(), "c.db") + "?synchronous=off"
}
