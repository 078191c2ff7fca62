// Package bus lets the modules of a program talk through typed events.
//
// # Five nouns
//
// An [Event] is a Go value that knows its own wire name, such as "orders.placed". A [Bus] publishes events and runs
// handlers. A group is the durable name of a consumer, such as "billing": each group gets every message of a topic once,
// and all instances of a program share it. A [Middleware] wraps the handling of every delivery. A transport
// (package [github.com/postbus/postbus/transport]) carries the messages; which one is a line of configuration.
//
// The topic of an event is its name up to the last dot, so that "orders.placed" and "orders.paid" travel together and
// keep their order to each other.
//
// # Handlers and verdicts
//
// [Handle] registers a function for one type of event in one group. Its error is a verdict: nil acknowledges the
// message, [Permanent] sends it to quarantine, [RetryAfter] brings it again not before then, and any other error brings
// it again by the retry policy. Retries in process, timeouts, quarantine and the recovery of panics are middleware;
// middleware.Standard builds the usual chain. Without any, a message that failed comes again after a pause that grows,
// for as long as it fails, and a panic crashes the program.
//
// What a handler publishes with its context gets the correlation id of the message it handles, that message's ID as the
// causation id, and its W3C trace context.
//
// # Delivery
//
// By default a message is handled at least once: after a crash, or when an acknowledgement is lost, it comes again, so
// handlers have to be idempotent. [AtMostOnce] acknowledges before handling.
//
// # Order
//
// Messages with one key ([Keyed]) are handled one after the other and in order, also across failures: while one waits
// to come again, the later ones of its key wait behind it, and those of other keys flow, as long as those that wait are
// fewer than GroupConfig.Prefetch. The exception is a [RetryAfter] of more than a second: the message leaves, and others
// of its key overtake it, unless GroupConfig.KeepOrder is set. Messages without a key are handled in parallel, on up to GroupConfig.Workers
// goroutines; what the transport promises beyond that is in its Capabilities.
//
// # Lifecycle
//
// [New] does no I/O. Then handlers are declared. [Bus.Start] reports all mistakes of the wiring at once, each with the
// place in the code, subscribes and returns. [Bus.Stop] stops fetching, lets handlers finish and settles what they
// did; when its context ends it cancels theirs. [Bus.Run] is both, around the life of a context. Whoever opened the
// transport closes it, after Stop.
package bus
