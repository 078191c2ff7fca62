// Package memory is the transport within one process: bounded queues between goroutines, no server.
//
// Each group on a topic has its own queue. Nothing is kept for groups to come, and nothing survives the process.
// Within the process the promises are those of a broker: at least once, in the order of publishing per topic, with
// redelivery, delays and messages for one group.
//
// A full queue makes Publish wait (back-pressure), except within a handler: there the queue grows, for the waiting
// handler might be the one that empties it. Once full, a queue takes more when half of it has been fetched.
//
// By default the bus encodes and decodes each event, so that a program behaves as it will on a broker and handlers
// share no memory. With Config.Share the Go value itself is handed over.
//
// Importing the package registers the scheme "memory":
//
//	memory:                    defaults
//	memory:?share=true         hand values over instead of encoding them
//	memory:?capacity=10000     messages waiting per group and topic before Publish waits; default 1024
//	memory:?max_payload=65536  largest payload in bytes; default no limit
package memory

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/postbus/postbus/internal/params"
	"github.com/postbus/postbus/transport"
)

func init() { transport.Register("memory", open) }

// DefaultCapacity is used where Config.Capacity is zero.
const DefaultCapacity = 1024

// Config configures a transport. Its zero value is ready to use.
type Config struct {
	// Capacity is how many messages wait for one group on one topic before Publish waits. A batch is taken whole once
	// there is room for one message. Default: DefaultCapacity.
	Capacity int
	// Share hands Message.Value over instead of asking the bus for encoded payloads: faster, but publisher and handlers
	// then share whatever the event points to.
	Share bool
	// MaxPayload is the largest payload in bytes. Default: no limit.
	MaxPayload int
}

// Transport is the in-process transport. Make it with [New].
type Transport struct {
	cfg  Config
	caps transport.Capabilities

	// topics is replaced as a whole, under mu, so that Publish reads it without a lock.
	topics atomic.Pointer[map[string]*topic]
	last   atomic.Pointer[topic]
	mu     sync.Mutex
	closed atomic.Bool

	idle      sync.Mutex
	idleWatch []chan struct{}
	watched   atomic.Bool
}

var (
	_ transport.Transport     = (*Transport)(nil)
	_ transport.LazyPublisher = (*Transport)(nil)
)

// New makes a transport. Negative fields of cfg count as zero.
func New(cfg Config) *Transport {
	cfg.Capacity, cfg.MaxPayload = max(cfg.Capacity, 0), max(cfg.MaxPayload, 0)
	if cfg.Capacity == 0 {
		cfg.Capacity = DefaultCapacity
	}
	t := &Transport{cfg: cfg, caps: transport.Capabilities{
		Order: transport.OrderPerTopic, Delay: true, Target: true, Values: cfg.Share, MaxPayload: cfg.MaxPayload,
	}}
	t.topics.Store(&map[string]*topic{})
	return t
}

func open(_ context.Context, u *url.URL) (transport.Transport, error) {
	if u.Opaque != "" || u.Host != "" || u.Path != "" || u.User != nil || u.Fragment != "" {
		return nil, errors.New(`only parameters may follow the scheme, such as "memory:?share=true"`)
	}
	var cfg Config
	p := params.Read(u)
	p.Int("capacity", &cfg.Capacity, 1)
	p.Bool("share", &cfg.Share)
	p.Int("max_payload", &cfg.MaxPayload, 1)
	if err := p.Err(); err != nil {
		return nil, err
	}
	return New(cfg), nil
}

// Capabilities implements transport.Transport.
func (t *Transport) Capabilities() transport.Capabilities { return t.caps }

// Publish implements transport.Transport. A topic without groups takes messages and forgets them.
func (t *Transport) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if t.closed.Load() {
		return transport.ErrClosed
	}
	queues := t.queuesOf(topic)
	failed := transport.CheckBatch(t.caps, topic, msgs)
	if failed != nil {
		partial, ok := failed.(*transport.PublishError)
		if !ok {
			return failed
		}
		good := make([]transport.Message, 0, len(msgs))
		for i, err := range partial.Errs {
			if err == nil {
				good = append(good, msgs[i])
			}
		}
		msgs = good
	}
	for i := range msgs {
		if m := &msgs[i]; m.Metadata != nil && len(m.Metadata) == 0 {
			m.Metadata = nil
		}
	}
	if err := push(ctx, queues, batch{msgs: msgs}); err != nil {
		return err
	}
	return failed
}

// PublishLazy implements transport.LazyPublisher.
func (t *Transport) PublishLazy(ctx context.Context, topic string, m transport.Lazy) error {
	if t.closed.Load() {
		return transport.ErrClosed
	}
	return push(ctx, t.queuesOf(topic), batch{lazy: m})
}

// batch is what one call publishes: messages, or one that is yet to be made.
type batch struct {
	msgs []transport.Message
	lazy transport.Lazy
}

func (b batch) len() int {
	if b.lazy != nil {
		return 1
	}
	return len(b.msgs)
}

// topic is where the queues of a topic are found. It stays as long as the transport.
type topic struct {
	name   string
	queues atomic.Pointer[[]*queue] // replaced as a whole
}

// queuesOf returns the queues of a topic. The last topic is kept at hand, for the next is often the same.
func (t *Transport) queuesOf(name string) []*queue {
	found := t.last.Load()
	if found == nil || found.name != name {
		if found = (*t.topics.Load())[name]; found == nil {
			return nil
		}
		t.last.Store(found)
	}
	return *found.queues.Load()
}

// push puts a batch into all queues or, if ctx ends before all of them have room, into none.
func push(ctx context.Context, queues []*queue, b batch) error {
	if pushIfRoom(queues, b) {
		return nil
	}
	unbounded := transport.WithinHandler(ctx)
	for i, q := range queues {
		if err := q.reserve(ctx, b.len(), unbounded); err != nil {
			for _, r := range queues[:i] {
				r.unreserve(b.len())
			}
			return err
		}
	}
	for _, q := range queues {
		q.pushReserved(b)
	}
	return nil
}

// Subscribe implements transport.Transport. A group has one active subscription per topic; further ones stand by, and
// the oldest takes over when the active one closes.
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
	defer t.mu.Unlock()
	if t.closed.Load() {
		return nil, transport.ErrClosed
	}
	topics := *t.topics.Load()
	found := topics[cfg.Topic]
	if found == nil {
		found = &topic{name: cfg.Topic}
		found.queues.Store(&[]*queue{})
		topics = maps.Clone(topics)
		topics[cfg.Topic] = found
		t.topics.Store(&topics)
	}
	queues := *found.queues.Load()
	i := slices.IndexFunc(queues, func(q *queue) bool { return q.group == cfg.Group })
	if i < 0 {
		i = len(queues)
		queues = append(slices.Clip(queues), newQueue(t, cfg.Group))
		found.queues.Store(&queues)
	}
	return queues[i].join(cfg.Prefetch, cfg.Lazy), nil
}

// Close implements transport.Transport. Messages that are still queued are lost, as the process's end would lose them.
func (t *Transport) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed.Swap(true) {
		return nil
	}
	for _, topic := range *t.topics.Load() {
		for _, q := range *topic.queues.Load() {
			q.close()
		}
	}
	t.notifyIdle()
	return nil
}

// Pending returns how many messages are queued, delivered but not settled, or scheduled for later, over all groups.
func (t *Transport) Pending() int {
	t.mu.Lock() // so that nobody else holds the locks of two queues
	defer t.mu.Unlock()
	n := 0
	for _, topic := range *t.topics.Load() {
		for _, q := range *topic.queues.Load() {
			// All at one moment: one after the other, what a handler publishes to a queue that was counted before its own
			// would be in neither.
			q.lock()
			defer q.mu.Unlock()
			n += q.pending()
		}
	}
	return n
}

// WaitIdle blocks until Pending is zero, the transport is closed, or ctx ends, whose error it returns.
func (t *Transport) WaitIdle(ctx context.Context) error {
	watch := make(chan struct{}, 1)
	t.idle.Lock()
	t.idleWatch = append(t.idleWatch, watch)
	t.watched.Store(true)
	t.idle.Unlock()
	defer func() {
		t.idle.Lock()
		t.idleWatch = slices.DeleteFunc(t.idleWatch, func(c chan struct{}) bool { return c == watch })
		t.watched.Store(len(t.idleWatch) > 0)
		t.idle.Unlock()
	}()
	for t.Pending() > 0 && !t.closed.Load() {
		select {
		case <-watch:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// notifyIdle lets the watchers look again; queues call it when they become empty.
func (t *Transport) notifyIdle() {
	if !t.watched.Load() {
		return
	}
	t.idle.Lock()
	defer t.idle.Unlock()
	for _, watch := range t.idleWatch {
		select {
		case watch <- struct{}{}:
		default: // it has yet to look
		}
	}
}
