package mysql_test

import (
	"context"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/mysql"
	"github.com/postbus/postbus/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, transporttest.Config{
		New: func(t testing.TB) transporttest.Opener {
			url := conformanceURL(t)
			return func(ctx context.Context) (transport.Transport, error) { return transport.Open(ctx, url) }
		},
		Crash: func(_ testing.TB, crashed transport.Transport) { mysql.Crash(crashed.(*mysql.Transport)) },
		Clock: time.Second, // created_at has whole seconds
		Quiet: 200 * time.Millisecond,
	})
}
