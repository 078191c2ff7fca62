package transporttest_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/transporttest"
)

func ExampleRun() {
	_ = func(t *testing.T) { // TestConformance of a driver
		transporttest.Run(t, transporttest.Config{
			New: func(t testing.TB) transporttest.Opener {
				path := filepath.Join(t.TempDir(), "test.db")
				return func(ctx context.Context) (transport.Transport, error) {
					return transport.Open(ctx, "sqlite:"+path)
				}
			},
		})
	}
}
