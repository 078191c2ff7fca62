package transport

import (
	"context"
	"time"
)

// A StatusReporter is a transport that knows how far its groups have come. Drivers over a log are.
type StatusReporter interface {
	// Status tells it of all groups that the transport knows, in the order of topic, group and partition. What cannot be
	// found out about one of them is its Err alone. It may be called concurrently with everything else, and costs a few
	// queries per group.
	Status(ctx context.Context) ([]GroupStatus, error)
}

// A Pinger is a transport that can lose its far side.
type Pinger interface {
	// Ping returns nil if messages can be carried now. It costs a round trip at most, ends with ctx, and may be called
	// concurrently with everything else.
	Ping(ctx context.Context) error
}

// GroupStatus is how far a group has come on a topic, for operators.
type GroupStatus struct {
	Topic, Group string
	// Partition is 0 to Partitions-1; Partitions is 1 for a group that is not split.
	Partition, Partitions int
	// Owner is the active consumer, as host/process id/a random text; empty if there is none.
	Owner string
	// Lag is how many messages are published and not settled; in a split group each partition counts those of all.
	Lag int
	// LagAge is how long ago the oldest of them was published; 0 if there is none.
	LagAge time.Duration
	// StalledBy is the id of the process, in the database, whose open transaction keeps messages of the topic from
	// being delivered; 0 if none does. StalledFor is the age of that transaction.
	StalledBy  int
	StalledFor time.Duration
	// Retained is how many bytes of its log the far side keeps for this group alone; 0 if it keeps none, or does not tell.
	Retained int64
	// Err is why what follows Owner is not known, such as a table that is gone; nil if it is.
	Err error
}
