package rabbitmq

import "github.com/postbus/postbus/transport"

// BreakChannel makes the broker close the channel of a subscription with PRECONDITION_FAILED, as its consumer timeout
// does.
func BreakChannel(sub transport.Subscription) {
	s := sub.(*subscription)
	s.mu.Lock()
	ch := s.current.ch
	s.mu.Unlock()
	_ = ch.Ack(1<<30, false)
}

// The names, for tests of them.
var (
	ExchangeName = exchangeName
	QueueName    = queueName
)
