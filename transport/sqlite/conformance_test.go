package sqlite_test

import (
	"context"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/sqlite"
	"github.com/postbus/postbus/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, transporttest.Config{
		New: func(t testing.TB) transporttest.Opener {
			url := conformanceURL(t)
			return func(ctx context.Context) (transport.Transport, error) { return transport.Open(ctx, url) }
		},
		Crash: func(_ testing.TB, crashed transport.Transport) { sqlite.Crash(crashed.(*sqlite.Transport)) },
		Quiet: 200 * time.Millisecond,
	})
}
