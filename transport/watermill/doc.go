// Package watermill joins Postbus and Watermill, both ways.
//
// [New] makes a transport of any Watermill Pub/Sub, so that a bus runs on Kafka, NATS, Google Pub/Sub or whatever else
// Watermill has a driver for. [NewPublisher] and [NewSubscriber] make a Watermill Publisher and Subscriber of any
// transport, so that a Watermill router runs on it.
//
// The fields of the envelope travel as metadata: the event name under "name", where Watermill's CQRS component has it,
// the correlation id under "correlation_id", where Watermill's middleware has it, and the others under keys that begin
// with "postbus_". Metadata of the user under such keys is escaped, and cannot be taken for a field. The UUID is the ID.
// Messages of plain Watermill publishers need none of this: they arrive with what they have.
package watermill
