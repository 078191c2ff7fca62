package watermill

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/transport"
)

// SubscriberConfig configures a Subscriber.
type SubscriberConfig struct {
	// Group is the group that all subscriptions belong to. Required.
	Group string
	// Start is where a group begins that the transport has not seen before. Default: the beginning.
	Start transport.Start
	// InFlight is how many messages of one subscription may be neither acknowledged nor nacked at once. With more than 1
	// a nacked message comes again after others that were published later. Default: 1.
	InFlight int
	// RetryDelay is the pause after the transport failed to receive or to settle. Default: 1 s.
	RetryDelay time.Duration
	// Logger is told of failures of the transport. Default: slog.Default().
	Logger *slog.Logger
}

// Subscriber is a Watermill Subscriber on a transport. Make it with [NewSubscriber].
type Subscriber struct {
	t   transport.Transport
	cfg SubscriberConfig

	mu      sync.Mutex
	closed  bool
	ctx     context.Context // ends with Close; it bounds goroutines, not calls
	cancel  context.CancelFunc
	running sync.WaitGroup
}

var (
	_ message.Subscriber           = (*Subscriber)(nil)
	_ message.SubscribeInitializer = (*Subscriber)(nil)
)

// NewSubscriber makes a Watermill Subscriber of a transport, which stays the caller's: closing one does not close the
// other. The error matches transport.ErrInvalid.
//
// A Watermill message has no place for a Go value: what a bus publishes by reference (transport.Capabilities.Values)
// arrives with its metadata and an empty payload. Join such programs by a transport that encodes.
func NewSubscriber(t transport.Transport, cfg SubscriberConfig) (*Subscriber, error) {
	if err := transport.CheckName("group", cfg.Group); err != nil {
		return nil, fmt.Errorf("watermill: SubscriberConfig.Group: %w", err)
	}
	if cfg.InFlight < 0 || cfg.RetryDelay < 0 {
		return nil, fmt.Errorf("watermill: %w: SubscriberConfig: InFlight %d and RetryDelay %s must not be negative",
			transport.ErrInvalid, cfg.InFlight, cfg.RetryDelay)
	}
	cfg.InFlight = max(cfg.InFlight, 1)
	if cfg.RetryDelay == 0 {
		cfg.RetryDelay = time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	s := &Subscriber{t: t, cfg: cfg}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// SubscribeInitialize implements message.SubscribeInitializer: from its return on, the group gets what is published to
// the topic, although nobody subscribes yet.
func (s *Subscriber) SubscribeInitialize(topic string) error {
	sub, err := s.subscribe(s.ctx, topic)
	if err != nil {
		return err
	}
	return sub.Close()
}

func (s *Subscriber) subscribe(ctx context.Context, topic string) (transport.Subscription, error) {
	return s.t.Subscribe(ctx, transport.SubscribeConfig{
		Topic: topic, Group: s.cfg.Group, Start: s.cfg.Start, Prefetch: s.cfg.InFlight,
	})
}

// Subscribe implements message.Subscriber. The metadata hold the fields of the envelope, under the keys that the package
// comment names; [Attempt] tells how often a message has been delivered. Nack brings it again at once, before later
// ones if the transport keeps an order. When ctx ends, or at Close, the channel is closed, and what is neither
// acknowledged nor nacked comes again, to whoever subscribes the group next.
func (s *Subscriber) Subscribe(ctx context.Context, topic string) (<-chan *message.Message, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil, transport.ErrClosed
	}
	s.running.Add(1)
	s.mu.Unlock()

	sub, err := s.subscribe(ctx, topic)
	if err != nil {
		s.running.Done()
		return nil, err
	}
	life, cancel := context.WithCancel(ctx)
	unbind := context.AfterFunc(s.ctx, cancel)
	d := &dispatcher{
		sub: sub, cfg: s.cfg, out: make(chan *message.Message), slots: make(chan struct{}, s.cfg.InFlight),
		log: s.cfg.Logger.With("group", s.cfg.Group, "topic", topic),
	}
	go func() {
		defer s.running.Done()
		defer close(d.out)
		defer unbind()
		defer cancel()
		d.run(life)
		if err := sub.Close(); err != nil && !errors.Is(err, transport.ErrClosed) {
			d.log.Warn("watermill: closing a subscription failed", "error", err)
		}
	}()
	return d.out, nil
}

// Close implements message.Subscriber. It is idempotent, and waits until all channels are closed.
func (s *Subscriber) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.cancel()
	s.running.Wait()
	return nil
}
