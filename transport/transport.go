package transport

import "context"

// Transport carries messages between publishers and groups.
//
// All methods may be called concurrently. Whoever opened a transport closes it.
type Transport interface {
	// Publish hands a batch over to topic and returns nil only when every message is as safe as this transport can make
	// it. Order within the batch is kept as Capabilities say. It blocks for back-pressure, until ctx ends.
	//
	// If only some messages failed, the error is a [*PublishError]; any other error speaks for all of them. An error
	// that matches [ErrOutcomeUnknown] leaves open whether the messages were published. Publish does not retry. It may
	// keep msgs: the caller does not use the slice again.
	Publish(ctx context.Context, topic string, msgs []Message) error

	// Subscribe joins a group on a topic. From its return on, the group gets every message that is published to the
	// topic; the group and what it has not settled outlive the subscription as long as the transport can keep them.
	// The context bounds the call only, not the life of the subscription.
	Subscribe(ctx context.Context, cfg SubscribeConfig) (Subscription, error)

	// Capabilities says what this transport can do. It does no I/O and its answer does not change.
	Capabilities() Capabilities

	// Close releases what the transport holds, its open subscriptions included; waiting calls return [ErrClosed].
	// It is idempotent, and returns within a few seconds even if the far side does not answer.
	Close() error
}

// SubscribeConfig says what a subscription is to.
type SubscribeConfig struct {
	// Topic and Group name the two ends; both are required.
	Topic, Group string
	// Start is where a group that the transport has not seen before begins. Default: StartBeginning, the oldest message
	// that is kept; a transport without Capabilities.Replay keeps none for groups to come, so that it begins now.
	Start Start
	// Prefetch is how many deliveries may be unsettled at once, at most. Default: 256.
	Prefetch int
	// Lazy allows deliveries that have Delivery.Lazy instead of a message. Default: each has its message.
	Lazy bool
}

// DefaultPrefetch is used where SubscribeConfig.Prefetch is zero.
const DefaultPrefetch = 256

// Check reports what is wrong with c; the error matches [ErrInvalid]. Drivers call it in Subscribe.
func (c *SubscribeConfig) Check() error {
	if err := CheckName("topic", c.Topic); err != nil {
		return err
	}
	if err := CheckName("group", c.Group); err != nil {
		return err
	}
	if c.Prefetch < 0 {
		return invalidf("prefetch %d must not be negative", c.Prefetch)
	}
	return nil
}

// Subscription is one consumer's end of a group on a topic. It is pulled.
//
// Receive is called by one goroutine at a time; Settle and Close may be called at any time by any goroutine.
type Subscription interface {
	// Receive blocks until there is at least one delivery, and returns what is there, up to max. It returns the error
	// of ctx when that ends (no delivery is lost by it), [ErrClosed] once the subscription or the transport is closed,
	// and any other error when the transport is in trouble: the caller may call again, after a pause, and the
	// subscription recovers by itself.
	//
	// The caller may hold many unsettled deliveries at once and settle them in any order. It does not change them.
	Receive(ctx context.Context, max int) ([]Delivery, error)

	// Settle ends deliveries, each exactly as told: an acknowledgement never covers a delivery that is not named. Tags
	// that are unknown or not valid any more (the connection was lost, the lease went to another consumer) are passed
	// over, for those messages come again. An error means that nothing is known to be settled; the same call may be
	// made again.
	Settle(ctx context.Context, settlements []Settlement) error

	// Close gives back what is unsettled, as if released, and ends the subscription; a waiting Receive returns
	// [ErrClosed]. It is idempotent.
	Close() error
}

// Delivery is a message on its way to one group.
type Delivery struct {
	// Message is what was published; nil if Lazy is not.
	*Message
	// Lazy makes the message. It is only set for a subscription with SubscribeConfig.Lazy.
	Lazy Lazy
	// Tag names the delivery within its subscription, for Settle.
	Tag uint64
	// Attempt counts the deliveries of this message to this group, this one included: 1 at first. A transport with
	// Capabilities.Durable counts across restarts, so that a message whose handling kills the process is known by it.
	// It includes Message.Attempts. A transport that cannot count exactly reports at least 2 on a redelivery.
	Attempt int
}

// Settlement ends one delivery.
type Settlement struct {
	Tag     uint64
	Outcome Outcome
}

// Outcome is what becomes of a delivery. Its zero value loses nothing.
type Outcome uint8

const (
	// Requeue brings the message again, to any consumer of the group; the attempt counts. Its place in the order is
	// the one it had.
	Requeue Outcome = iota
	// Release is a Requeue that does not count as an attempt, where the transport can tell them apart: the message was
	// not tried, as at a shutdown.
	Release
	// Ack is done: the message does not come to this group again.
	Ack
)

// String returns the lower-case name of the outcome.
func (o Outcome) String() string {
	switch o {
	case Requeue:
		return "requeue"
	case Release:
		return "release"
	case Ack:
		return "ack"
	}
	return "invalid outcome"
}
