package memory_test

import (
	"context"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
	"github.com/postbus/postbus/transport/transporttest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]memory.Config{
		"default": {}, "share": {Share: true}, "small": {Capacity: 300, MaxPayload: 4096},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			transporttest.Run(t, transporttest.Config{
				Quiet: 20 * time.Millisecond, Delay: 150 * time.Millisecond,
				New: func(testing.TB) transporttest.Opener {
					return func(context.Context) (transport.Transport, error) { return memory.New(cfg), nil }
				},
			})
		})
	}
}
