// Package rabbitmq is the transport over RabbitMQ 3.10 or later, on the topology and the wire format of watermill-amqp's
// durable pub/sub configuration: a plain Watermill service on the same exchange understands every message, and its
// messages are understood here.
//
// # Topology
//
// A topic is a durable fanout exchange of its name, a group on it a durable queue "topic_group". The names are Watermill's
// wherever those are unambiguous; where they are not, or where the broker reserves or cannot hold them, a "%" appears:
//
//	topic "amq.x", or beginning with "%" or "postbus.delay"   exchange "%amq.x", for the broker and this package own those
//	group "a_b"                                                queue "topic_a%5Fb", for topic "t_a" and group "b" is another
//	a name of more than 255 bytes                              "%#", a hash, "_" and its beginning
//
// Queues are quorum queues with a delivery limit out of reach, for the broker's own limit would drop a message before
// anybody could quarantine it. ?queue=classic joins or makes classic queues, as Watermill declares them by default.
//
// # Publishing
//
// All messages are persistent and confirmed by the broker. Concurrent calls of Publish share one channel, on which up to
// Config.Window messages wait for their confirms, and share writes to the socket. A call returns when its own messages
// are confirmed. If the connection is lost before, those that were written report transport.ErrOutcomeUnknown. While the
// broker is unreachable or holds publishers up (an alarm of memory or disk), Publish waits: for the connection at most
// Config.ConnectTimeout, for an alarm until its context ends.
//
// A message that reaches no queue, because no group has joined its topic or the one that it is for has not, is counted and
// logged; with ?mandatory=true it is an error, [ErrUnroutable].
//
// # Consuming
//
// Each subscription has a channel of its own. Deliveries belong to it: once it is lost, their tags are not valid any more
// and their messages come again. Receive finds the way back by itself, declaring anew what was deleted.
//
// # Attempts
//
// Quorum queues count deliveries (x-delivery-count), across restarts of everything. They count what they gave to a
// subscription, whether it was received or not: what a subscription holds when it ends is counted once, also what it has only
// fetched. Within the life of a transport that is corrected; other processes see it. A released message stays with its
// subscription, and is not counted. So a message whose handling ends the process is known by its count, whoever gets it next.
//
// What lay fetched beside it at its death was counted as well, once: the first channel to a queue in a
// process, and each that follows a lost one, begins with a probation, in which it fetches one message at a time, each after the one before was settled, as long as what comes was tried before. So what is tried
// again after a death is alone at the next one. At first a subscription thus handles what another one held at its end, at most
// its Prefetch, one after the other, at a round trip to the broker each; a caller must not wait for a second message before it
// settles the first. Other instances that are past their probation fetch in bulk: each can add one to the count of what it
// holds when it dies. Nor is there a probation with single active consumer, where the queue would go to another process
// between the two ways to fetch: if neighbours must not go to quarantine there, keep Prefetch small.
//
// With single active consumer a requeued message stays as well, for the sake of the order. Its attempts are counted within
// the transport; a process that takes over counts one for each subscription that has held it. Classic queues only know
// whether a message was delivered before: after a restart Attempt begins again at 2, so that a message whose handling ends
// the process is not known by its count. Let handlers that may do that work on quorum queues. What comes again by
// Message.NotBefore, as after middleware.DelayedRetry, carries its count itself, on every queue.
//
// The broker's own delivery limit is out of reach on the queues that this package declares. If a policy of the broker's
// sets a lower one, that wins, and the broker drops what exceeds it.
//
// # Order
//
// Messages of one transport reach a queue in the order in which Publish was called. With ?single-active-consumer=true one
// subscription of a group is active at a time and gets them in that order, so that Capabilities say "per topic"; without
// it several instances share a queue, and they say "none".
//
// With single active consumer a requeued message takes its place before those that have not been received. When a channel
// ends, by a lost connection, by Close or with its process, whatever was unsettled comes again in the order of publication,
// to whoever is active next; so it is on quorum queues only as long as that one's Prefetch is not smaller than the last
// one's. A duplicate of what was acknowledged on the lost channel can come at any time. What is unsettled for longer than
// the broker's consumer timeout, half an hour by default, costs the channel: requeues do not start that time anew.
//
// Without it, a requeued message comes before those that were not fetched yet; a classic queue gives it its old place, a
// quorum queue the place behind those that were requeued before it.
//
// # Delays
//
// A message with NotBefore waits in the broker, without a plugin: it walks down a ladder of queues "postbus.delay.N", in
// each of which it lives for 2^N units of 64 ms, and from the last one goes to its topic's exchange or its group's queue.
// It comes never before its time, and later by up to one unit and what each step takes (some milliseconds; a delay takes
// as many steps as its number of units has binary ones). Messages whose due times differ by more than that keep the order
// of these. The longest delay is about two years. The ladder is declared on first use; its queues are quorum queues that
// hand messages on at least once.
//
// The broker marks what walked the ladder with headers that are not text (x-death), and quorum queues what they deliver
// again. This package removes them. Watermill's own marshaler fails on them and its subscriber then requeues without
// end: a plain Watermill program that shall get delayed messages needs a marshaler that skips such headers.
//
// # URL
//
//	amqp://user:password@host:5672/vhost?queue=classic
//
//	queue=quorum|classic              type of the queues of groups; default quorum
//	single-active-consumer=true       one active consumer per queue, which keeps the order; default false
//	mandatory=true                    a message that reaches no queue is an error; default false
//	max_payload=16777216              largest payload in bytes; default 16 MiB, what RabbitMQ 4 takes unless configured
//	window=4096                       messages that wait for confirms at once; default 4096
//	heartbeat=10s                     interval of heartbeats; a connection is lost after three; default 10s
//	connect_timeout=10s               time for a connection to come up; default 10s
//	name=shop                         the connections' name in the broker's lists; default "postbus"
//	password_file=path                file with the password, read at each connect
//	cacertfile=, certfile=, keyfile=  PEM files for amqps, read at each connect
//	server_name_indication=name       name in the broker's certificate; default the host
//	auth_mechanism=external           the certificate instead of user and password
//
// A password appears in no error and no log line.
package rabbitmq
