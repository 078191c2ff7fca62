package rabbitmq

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

// Transport is a transport over RabbitMQ. Make it with [Open] or transport.Open.
type Transport struct {
	cfg        Config
	at         endpoint
	caps       transport.Capabilities
	opened     time.Time
	publishing *link
	session    atomic.Pointer[session] // of the publishing connection that is up, or was last
	unroutable atomic.Uint64
	warned     atomic.Int64 // when an unroutable message was logged last, in seconds of Unix time
	uncounted  sync.Once    // the warning about classic queues

	starting  sync.Mutex // held while the consuming connection is opened
	mu        sync.Mutex
	consuming *link // opened by the first Subscribe
	closed    bool
	over      chan struct{} // closed when Close has done its work
	subs      map[*subscription]struct{}
	histories map[string]*history // by queue
}

var _ transport.Transport = (*Transport)(nil)

// Open connects to the broker. The context bounds the opening only. A first connect that fails is an error, for it
// mostly is a mistake of configuration; later losses of the connection are mended without end.
func Open(ctx context.Context, cfg Config) (*Transport, error) {
	cfg, at, err := cfg.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("rabbitmq: %w", err)
	}
	t := &Transport{
		cfg: cfg, at: at, opened: time.Now(), over: make(chan struct{}), subs: map[*subscription]struct{}{}, histories: map[string]*history{},
		caps: transport.Capabilities{Durable: true, Delay: true, Target: true, MaxPayload: cfg.MaxPayload},
	}
	if cfg.SingleActiveConsumer {
		t.caps.Order = transport.OrderPerTopic
	}
	t.publishing, err = newLink(ctx, "publishing", &t.cfg, t.dialPublishing)
	if err != nil {
		return nil, fmt.Errorf("rabbitmq: connect to %s: %w", at.addr, err)
	}
	return t, nil
}

func (t *Transport) dialPublishing(ctx context.Context, onBlocked func(string)) (*connection, error) {
	c, err := connect(ctx, &t.cfg, t.at, "publishing", onBlocked)
	if err != nil {
		return nil, err
	}
	var s *session
	err = c.await(ctx, func() (err error) {
		s, err = newSession(c, t.cfg.Window)
		return err
	})
	if err != nil {
		c.shut()
		return nil, err
	}
	t.session.Store(s)
	return c, nil
}

// stallLimit is how long one write to the consuming connection may take. The broker always reads from it.
const stallLimit = 30 * time.Second

func (t *Transport) dialConsuming(ctx context.Context, onBlocked func(string)) (*connection, error) {
	c, err := connect(ctx, &t.cfg, t.at, "consuming", onBlocked)
	if err == nil {
		c.sock.limit(stallLimit)
	}
	return c, err
}

// Capabilities implements transport.Transport.
func (t *Transport) Capabilities() transport.Capabilities { return t.caps }

// Subscribe implements transport.Transport. A queue or exchange that exists with other properties is an [ErrMismatch].
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
	cfg.Prefetch = min(cfg.Prefetch, 1<<16-1) // what the protocol can say
	l, err := t.consumingLink(ctx)
	if err != nil {
		return nil, subscribeError(cfg, err)
	}
	for handovers := 0; ; handovers++ {
		conn, err := l.get(ctx)
		if err == nil {
			err = t.declareGroup(ctx, conn, cfg.Topic, cfg.Group)
		}
		if err == nil {
			break
		}
		if conn == nil || !conn.ended() || ctx.Err() != nil || handovers == maxHandovers {
			return nil, subscribeError(cfg, err)
		}
		<-conn.done // it was lost meanwhile, and is about to be replaced
	}
	if t.cfg.Queue == Classic {
		t.uncounted.Do(func() {
			t.cfg.Logger.Warn("rabbitmq: classic queues do not count deliveries: a message whose handling ends the process comes again without end",
				slog.String("topic", cfg.Topic), slog.String("group", cfg.Group))
		})
	}
	s := newSubscription(t, l, cfg)
	t.mu.Lock()
	closed := t.closed
	if !closed {
		t.subs[s] = struct{}{}
	}
	t.mu.Unlock()
	if closed {
		s.Close()
		return nil, transport.ErrClosed
	}
	return s, nil
}

func subscribeError(cfg transport.SubscribeConfig, err error) error {
	if errors.Is(err, transport.ErrClosed) {
		return transport.ErrClosed
	}
	return fmt.Errorf("rabbitmq: subscribe group %q to %q: %w", cfg.Group, cfg.Topic, err)
}

// historyOf returns what this process remembers of a queue; it outlives subscriptions.
func (t *Transport) historyOf(queue string) *history {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.histories[queue]
	if h == nil {
		h = newHistory(t.cfg.Queue == Quorum)
		t.histories[queue] = h
	}
	return h
}

// consumingLink opens the connection for consuming on first use.
func (t *Transport) consumingLink(ctx context.Context) (*link, error) {
	t.starting.Lock()
	defer t.starting.Unlock()
	t.mu.Lock()
	l, closed := t.consuming, t.closed
	t.mu.Unlock()
	switch {
	case closed:
		return nil, transport.ErrClosed
	case l != nil:
		return l, nil
	}
	l, err := newLink(ctx, "consuming", &t.cfg, t.dialConsuming)
	if err != nil {
		return nil, err
	}
	t.mu.Lock()
	if closed = t.closed; !closed {
		t.consuming = l
	}
	t.mu.Unlock()
	if closed {
		l.close()
		return nil, transport.ErrClosed
	}
	return l, nil
}

// Close implements transport.Transport. What is on its way to the broker is abandoned: callers that want it confirmed
// wait for Publish.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		<-t.over
		return nil
	}
	t.closed = true
	consuming := t.consuming
	subs := make([]*subscription, 0, len(t.subs))
	for s := range t.subs {
		subs = append(subs, s)
	}
	t.mu.Unlock()
	defer close(t.over)
	var wg sync.WaitGroup
	for _, s := range subs {
		wg.Go(func() { s.Close() })
	}
	wg.Go(t.publishing.close)
	wg.Wait()
	if consuming != nil {
		consuming.close()
	}
	return nil
}

// noteUnroutable counts messages that reached no queue, and logs at most once a minute.
func (t *Transport) noteUnroutable(topic string, n int) {
	total := t.unroutable.Add(uint64(n))
	now := time.Now().Unix()
	if last := t.warned.Load(); now-last >= 60 && t.warned.CompareAndSwap(last, now) {
		t.cfg.Logger.Warn("rabbitmq: messages reached no queue and are dropped: no group has joined the topic",
			slog.String("topic", topic), slog.Uint64("so_far", total))
	}
}
