package transport

import "context"

// A Tailer is a transport whose messages can be looked at beside its groups, for operators.
type Tailer interface {
	// Tail calls f with the messages that are published to topic, from start on and in order, until ctx ends, f returns an
	// error, or the transport is in trouble, and returns why. It takes no message from any group and leaves nothing
	// behind. Messages for one group alone are not seen. Without Capabilities.Replay it begins now, wherever start is. The
	// error matches ErrNoTopic if there is no such topic.
	Tail(ctx context.Context, topic string, start Start, f func(m *Message) error) error
}
