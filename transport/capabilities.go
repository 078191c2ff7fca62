package transport

import (
	"fmt"
	"time"
)

// Capabilities say what a transport can do. The same struct says what a group needs: see [Capabilities.Missing].
type Capabilities struct {
	// Durable: a message whose Publish returned nil survives a crash of every process, and attempts are counted
	// across it.
	Durable bool
	// Order is the order in which a group gets the messages of a topic.
	Order Order
	// Delay: Message.NotBefore is honoured. Without it, Publish of such a message fails with [ErrUnsupported].
	Delay bool
	// Target: Message.TargetGroup is honoured. Without it, Publish of such a message fails with [ErrUnsupported].
	Target bool
	// Replay: messages are kept for groups to come, and SubscribeConfig.Start is honoured.
	Replay bool
	// Transactional: the driver can publish within a transaction of the caller's.
	Transactional bool
	// Values: Message.Value travels, and Payload need not be set.
	Values bool
	// MaxPayload is the largest payload in bytes; 0 is no limit.
	MaxPayload int
}

// Missing returns what need asks for and c does not have, each as a short text; nil if nothing is missing. The zero
// Capabilities need nothing; a need for MaxPayload n is a need for payloads of n bytes.
func (c Capabilities) Missing(need Capabilities) []string {
	var missing []string
	for _, f := range [...]struct {
		name      string
		has, need bool
	}{
		{"durable", c.Durable, need.Durable},
		{"delay", c.Delay, need.Delay},
		{"target", c.Target, need.Target},
		{"replay", c.Replay, need.Replay},
		{"transactional", c.Transactional, need.Transactional},
		{"values", c.Values, need.Values},
	} {
		if f.need && !f.has {
			missing = append(missing, f.name)
		}
	}
	if need.Order > c.Order {
		missing = append(missing, fmt.Sprintf("order %s (has %s)", need.Order, c.Order))
	}
	if c.MaxPayload > 0 && need.MaxPayload > c.MaxPayload {
		missing = append(missing, fmt.Sprintf("payloads of %d bytes (has %d)", need.MaxPayload, c.MaxPayload))
	}
	return missing
}

// Order is a promise about the order of deliveries to a group; each includes the ones before it.
type Order uint8

const (
	// OrderNone: no promise.
	OrderNone Order = iota
	// OrderPerKey: messages with one key arrive in the order in which they were published.
	OrderPerKey
	// OrderPerTopic: all messages of a topic do.
	OrderPerTopic
)

// String returns "none", "per key" or "per topic".
func (o Order) String() string {
	switch o {
	case OrderNone:
		return "none"
	case OrderPerKey:
		return "per key"
	case OrderPerTopic:
		return "per topic"
	}
	return fmt.Sprintf("Order(%d)", uint8(o))
}

// Start is where a new group begins. The zero value is the beginning.
type Start struct {
	now  bool
	time time.Time
}

// StartBeginning begins at the oldest message that is kept.
func StartBeginning() Start { return Start{} }

// StartNow begins with the first message that is published after the group joined.
func StartNow() Start { return Start{now: true} }

// StartAt begins with the first message that was published at t or later.
func StartAt(t time.Time) Start { return Start{time: t} }

// Now reports whether s is StartNow.
func (s Start) Now() bool { return s.now }

// Time returns the time of StartAt, or the zero time.
func (s Start) Time() time.Time { return s.time }
