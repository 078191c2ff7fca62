package bustest

import (
	"context"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/transporttest"
)

// Left to itself, the adversary's transport is as good as any.
func TestBrokerConforms(t *testing.T) {
	t.Parallel()
	transporttest.Run(t, transporttest.Config{
		New: func(testing.TB) transporttest.Opener {
			return func(context.Context) (transport.Transport, error) {
				return &process{b: newBroker(&journal{})}, nil
			}
		},
	})
}
