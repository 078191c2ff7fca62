// Package transport is the contract between a bus and whatever carries its messages: Go channels, a database, a broker.
//
// A [Transport] is small and dumb on purpose. It moves batches of messages, counts deliveries and reports what it can
// do as data ([Capabilities]); it does not retry, does not decode and does not know handlers. Everything that has
// meaning stands once, in package bus.
//
// Programs open a transport by URL with [Open]; the package of the driver must be imported, for its scheme registers
// itself there:
//
//	import _ "github.com/postbus/postbus/transport/memory"
//
//	t, err := transport.Open(ctx, "memory:")
//
// Package transporttest holds the suite that every driver must pass.
package transport
