package transport

import "context"

// HandlerKey is the context key under which a context of message handling answers with a non-nil value. Package bus
// sets it; drivers ask with [WithinHandler].
type HandlerKey struct{}

// WithinHandler reports whether ctx belongs to the handling of a delivery. A transport with bounded queues must not
// make such a Publish wait for room: the handler it would hold up may be the very one that makes room.
func WithinHandler(ctx context.Context) bool { return ctx.Value(HandlerKey{}) != nil }
