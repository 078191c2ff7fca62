package rabbitmq

import (
	"context"
	"log/slog"
	"net/url"
	"time"

	"github.com/postbus/postbus/transport"
)

// OpenURL is transport.Open with a logger.
func OpenURL(ctx context.Context, rawURL string, log *slog.Logger) (*Transport, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	cfg, err := configOf(u)
	if err != nil {
		return nil, err
	}
	cfg.Logger = log
	return Open(ctx, cfg)
}

// Hasty lets a transport connect again almost at once.
func Hasty(c *Config) { c.firstPause = time.Microsecond }

// BreakChannel makes the broker close the channel of a subscription with PRECONDITION_FAILED, as its consumer timeout
// does.
func BreakChannel(sub transport.Subscription) {
	s := sub.(*subscription)
	s.mu.Lock()
	ch := s.current.ch
	s.mu.Unlock()
	_ = ch.Ack(1<<30, false)
}

// Generation returns which channel of its subscription a delivery came on, from 1.
func Generation(d transport.Delivery) uint64 { return d.Tag >> (tagBits + epochBits) }

// The names, for tests of them.
var (
	ExchangeName = exchangeName
	QueueName    = queueName
)

// Crash ends both connections as the death of the process would: the sockets close without a word.
func Crash(t *Transport) {
	t.mu.Lock()
	links := []*link{t.publishing, t.consuming}
	t.mu.Unlock()
	for _, l := range links {
		if l == nil {
			continue
		}
		l.mu.Lock()
		c := l.current
		l.mu.Unlock()
		l.stop()
		if c != nil {
			c.sock.Conn.Close()
		}
	}
}
