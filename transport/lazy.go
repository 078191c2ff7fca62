package transport

import "context"

// Lazy is a message whose envelope nobody has looked at yet: an event on its way through the process. Most handlers take
// the event and never ask for more, and the envelope costs more than all the rest of the way.
type Lazy interface {
	// Message makes the envelope. Every call returns the same one; calls may be concurrent.
	Message() *Message
}

// LazyPublisher is implemented by transports within the process that have Capabilities.Values.
type LazyPublisher interface {
	// PublishLazy is Publish of one message that is for all groups and for now, and that the caller has checked. A
	// subscription gets it as Delivery.Lazy if SubscribeConfig.Lazy asks for that, and as Delivery.Message if not.
	PublishLazy(ctx context.Context, topic string, m Lazy) error
}
