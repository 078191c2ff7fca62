package watermill

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// closeTimeout bounds how long Close waits for the Pub/Sub.
const closeTimeout = 5 * time.Second

// Config says how to make a transport of a Watermill Pub/Sub.
type Config struct {
	// Publisher publishes. Required.
	Publisher message.Publisher
	// Subscriber makes the subscriber of a group; it is called once for each group. In Watermill the group is in the
	// subscriber's configuration, under the name that its Pub/Sub has for it (ConsumerGroup, QueueGroup, …). A Pub/Sub
	// without groups, such as GoChannel, returns one and the same: then a group is what one process subscribes.
	// Required.
	Subscriber func(group string) (message.Subscriber, error)
	// Capabilities are those of the Pub/Sub, which Watermill's interfaces do not tell: Durable, Order and MaxPayload.
	// The others have no counterpart in Watermill and must be left out. Attempts are counted within the process only,
	// whatever Durable says.
	Capabilities transport.Capabilities
	// MaxUUID is how many bytes of UUID the Pub/Sub can carry, 36 for watermill-sql. A longer ID travels as metadata,
	// with a UUID that is derived from it. Default: no limit.
	MaxUUID int
	// KeepOpen leaves the Publisher and the Subscribers open at Close. By default the transport owns them.
	KeepOpen bool
}

// Transport carries messages over a Watermill Pub/Sub. Make it with [New].
//
// How many deliveries are in flight at once is the Pub/Sub's choice: most of Watermill's subscribers deliver the next
// message after the last one was acknowledged. Requeue and Release are Watermill's Nack.
//
// A message with the TargetGroup of another group, published by a transport that honours it, is acknowledged and passed
// over.
type Transport struct {
	cfg  Config
	done chan struct{} // closed by Close

	mu          sync.Mutex
	closed      bool
	subscribers map[string]message.Subscriber // by group
	feeds       map[feedKey]*feed
	open        map[*subscription]bool
	running     sync.WaitGroup // subscriptions, and goroutines that wait for the Pub/Sub
}

var _ transport.Transport = (*Transport)(nil)

// New makes a transport. The error lists everything that is wrong with cfg.
func New(cfg Config) (*Transport, error) {
	var errs []error
	if cfg.Publisher == nil {
		errs = append(errs, errors.New("watermill: Config.Publisher is required"))
	}
	if cfg.Subscriber == nil {
		errs = append(errs, errors.New("watermill: Config.Subscriber is required"))
	}
	if cfg.MaxUUID != 0 && cfg.MaxUUID < 36 {
		errs = append(errs, fmt.Errorf("watermill: Config.MaxUUID %d must be 0, for no limit, or 36 at least", cfg.MaxUUID))
	}
	supported := transport.Capabilities{
		Durable: cfg.Capabilities.Durable, Order: cfg.Capabilities.Order, MaxPayload: cfg.Capabilities.MaxPayload,
	}
	if missing := supported.Missing(cfg.Capabilities); missing != nil {
		errs = append(errs, fmt.Errorf("watermill: Config.Capabilities: no Watermill Pub/Sub has %q", missing))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Transport{
		cfg: cfg, done: make(chan struct{}), subscribers: map[string]message.Subscriber{},
		feeds: map[feedKey]*feed{}, open: map[*subscription]bool{},
	}, nil
}

// Capabilities implements transport.Transport.
func (t *Transport) Capabilities() transport.Capabilities { return t.cfg.Capabilities }

// Publish implements transport.Transport. The batch is one call of Watermill's Publish, with ctx as the context of each
// message. Watermill does not tell how much of a batch was published when it fails, so that each of its errors matches
// transport.ErrOutcomeUnknown. A publisher that ignores the context goes on in the background until it returns.
func (t *Transport) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	failed := transport.CheckBatch(t.cfg.Capabilities, topic, msgs)
	partial, some := errors.AsType[*transport.PublishError](failed)
	if failed != nil && !some {
		return failed
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	out := make([]*message.Message, 0, len(msgs))
	for i := range msgs {
		if !some || partial.Errs[i] == nil {
			out = append(out, t.encode(ctx, &msgs[i]))
		}
	}
	err := t.publish(ctx, topic, out)
	if err == nil || !some {
		return errors.Join(err, failed) // one of them is nil
	}
	all := slices.Clone(partial.Errs)
	for i := range all {
		if all[i] == nil {
			all[i] = err
		}
	}
	return &transport.PublishError{Errs: all}
}

func (t *Transport) encode(ctx context.Context, m *transport.Message) *message.Message {
	uuid, metadata := wire.Encode(m, t.cfg.MaxUUID)
	msg := message.NewMessageWithContext(ctx, uuid, m.Payload)
	if metadata != nil {
		msg.Metadata = metadata
	}
	return msg
}

func (t *Transport) publish(ctx context.Context, topic string, msgs []*message.Message) error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return transport.ErrClosed
	}
	if len(msgs) == 0 {
		t.mu.Unlock()
		return nil
	}
	t.running.Add(1)
	t.mu.Unlock()
	published := make(chan error, 1)
	go func() {
		defer t.running.Done()
		published <- t.cfg.Publisher.Publish(topic, msgs...)
	}()
	var err error
	select {
	case err = <-published:
	case <-ctx.Done():
		err = ctx.Err()
	case <-t.done:
		err = transport.ErrClosed
	}
	if err != nil {
		return fmt.Errorf("watermill: publish %q: %w: %w", topic, transport.ErrOutcomeUnknown, err)
	}
	return nil
}

// Subscribe implements transport.Transport. Subscriptions of one group on one topic share one of Watermill's within the
// process.
func (t *Transport) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	if err := cfg.Check(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if cfg.Prefetch == 0 {
		cfg.Prefetch = transport.DefaultPrefetch
	}
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil, transport.ErrClosed
	}
	key := feedKey{cfg.Topic, cfg.Group}
	f := t.feeds[key]
	if f == nil {
		f = &feed{t: t, key: key, turn: make(chan struct{}, 1)}
		t.feeds[key] = f
	}
	t.running.Add(1)
	t.mu.Unlock()

	s := newSubscription(f, cfg.Prefetch)
	if err := f.join(ctx, s); err != nil {
		t.running.Done()
		return nil, err
	}
	return s, nil
}

// subscriber returns the subscriber of a group, which it makes the first time.
func (t *Transport) subscriber(group string) (message.Subscriber, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, transport.ErrClosed
	}
	if s := t.subscribers[group]; s != nil {
		return s, nil
	}
	s, err := t.cfg.Subscriber(group)
	if err != nil {
		return nil, fmt.Errorf("watermill: subscriber of group %q: %w", group, err)
	}
	if s == nil {
		return nil, fmt.Errorf("watermill: subscriber of group %q: Config.Subscriber returned nil", group)
	}
	t.subscribers[group] = s
	return s, nil
}

// Close implements transport.Transport. Unless Config.KeepOpen is set, it closes the subscribers and the publisher too.
// It returns an error if the Pub/Sub does not end within five seconds.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	close(t.done)
	open, subscribers := slices.Collect(maps.Keys(t.open)), slices.Collect(maps.Values(t.subscribers))
	t.mu.Unlock()

	ended := make(chan error, 1)
	go func() {
		var errs []error
		for _, s := range open {
			errs = append(errs, s.Close())
		}
		if !t.cfg.KeepOpen {
			for _, s := range subscribers {
				errs = append(errs, s.Close())
			}
			errs = append(errs, t.cfg.Publisher.Close())
		}
		t.running.Wait()
		ended <- errors.Join(errs...)
	}()
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("watermill: close: %w", err)
		}
		return nil
	case <-timer.C:
		return fmt.Errorf("watermill: close: the Pub/Sub has not ended after %s", closeTimeout)
	}
}
