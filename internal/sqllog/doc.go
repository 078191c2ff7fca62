// Package sqllog is the engine of the SQL transports: a durable log per topic in a table, groups that read it, and the
// rows that hold their progress. What differs between databases is behind [Dialect].
//
// # Tables
//
// The messages of a topic are in watermill_<topic>, and how far each group has come in watermill_offsets_<topic>, both
// as watermill-sql makes them. What these cannot hold is in tables of our own:
//
//	postbus_topics   the tables of each topic, and the server where its transaction ids come from
//	postbus_groups   per group, topic and partition: the lease, and which messages are delivered or settled out of order
//	postbus_members  the subscriptions that share the partitions of a group
//	postbus_later    messages for a later time, or for one group
//
// # Progress
//
// A group's offset is its contiguous prefix: everything at or below it is settled. What goes beyond the prefix is in the
// state of its row in postbus_groups: see [state]. The holder of the lease writes both in one statement, fenced by the
// token of the lease, once per batch: acknowledgements of the past batch and the mark "delivered up to here" of the next
// one together. A consumer that finds messages marked but not settled knows that its predecessor died with them; each of
// them counts one more attempt and is delivered alone, so that the one that kills can be told from the others.
package sqllog
