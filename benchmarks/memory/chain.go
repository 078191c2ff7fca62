package memory

import (
	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/middleware"
)

// chain is what both sides of a comparison run around the handler: ours as of package middleware, the peers' as they
// come with the peer.
func chain() []bus.Middleware {
	return []bus.Middleware{
		middleware.Correlation(), middleware.Retry(middleware.RetryConfig{}), middleware.Recover(),
	}
}
