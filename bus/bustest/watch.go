package bustest

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// watch is a transport that keeps the books of another: which group has yet to do with which message.
type watch struct {
	transport.Transport
	journal    *journal
	atMostOnce map[string]bool // by group: done when handled, and not when acknowledged
	wake       chan struct{}   // for Settle, which looks again

	mu         sync.Mutex
	groups     map[string][]string // by topic
	open       map[watchKey]*watched
	seq        int
	deliveries int
	worst      int // attempts
}

type watchKey struct{ topic, group, id string }

// watched is a message on its way to one group; count is of copies with the same ID.
type watched struct {
	outstanding
	seq, count int
}

func newWatch(cfg *bus.Config, j *journal) *watch {
	w := &watch{
		Transport: cfg.Transport, journal: j, atMostOnce: atMostOnce(cfg), wake: make(chan struct{}, 1),
		groups: map[string][]string{}, open: map[watchKey]*watched{},
	}
	return w
}

func atMostOnce(cfg *bus.Config) map[string]bool {
	groups := map[string]bool{}
	for name, g := range cfg.Groups {
		groups[name] = g.Delivery == bus.AtMostOnce
	}
	return groups
}

func (w *watch) settle(deadline <-chan time.Time, bubble bool) (trouble string) {
	w.mu.Lock()
	w.deliveries = 0
	w.mu.Unlock()
	for quiet := false; ; {
		w.mu.Lock()
		idle, exceeded := len(w.open) == 0, w.deliveries >= maxDeliveries || w.worst >= maxAttempts
		w.mu.Unlock()
		switch {
		case exceeded:
			return tooMany
		case w.journal.endless():
			return tooDeep
		case idle && (quiet || !bubble):
			return ""
		case idle: // not before: with events that cause each other for ever, wait would not return
			quiet = wait()
			continue
		}
		quiet = false
		select {
		case <-w.wake:
		case <-deadline:
			return tooLong
		}
	}
}

func (w *watch) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

func (w *watch) pending() []outstanding {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []outstanding
	for _, m := range slices.SortedFunc(maps.Values(w.open), func(a, b *watched) int { return cmp.Compare(a.seq, b.seq) }) {
		list = append(list, m.outstanding)
	}
	return list
}

// add expects m at a group. It is called with the lock.
func (w *watch) add(topic, group string, m *transport.Message) *watched {
	key := watchKey{topic, group, m.ID}
	o := w.open[key]
	if o == nil {
		w.seq++
		o = &watched{seq: w.seq, outstanding: outstanding{
			event: m.Name, id: m.ID, key: m.Key, topic: topic, group: group, attempts: m.Attempts, due: m.NotBefore,
		}}
		w.open[key] = o
	}
	o.count++
	return o
}

// done ends one copy. It is called with the lock.
func (w *watch) done(key watchKey) {
	o := w.open[key]
	if o == nil {
		return
	}
	o.handling = false
	if o.count--; o.count <= 0 {
		delete(w.open, key)
	}
	if len(w.open) == 0 {
		w.signal()
	}
}

// Publish implements transport.Transport.
func (w *watch) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	entries := make([]*entry, len(msgs))
	w.mu.Lock()
	groups := w.groups[topic]
	expect := func(m *transport.Message, f func(group string)) {
		for _, group := range groups {
			if m.TargetGroup == "" || m.TargetGroup == group {
				f(group)
			}
		}
	}
	for i := range msgs { // before they are published, for handlers may be quick
		entries[i] = w.journal.add(topic, &msgs[i])
		expect(&msgs[i], func(group string) { w.add(topic, group, &msgs[i]) })
	}
	w.mu.Unlock()
	if w.journal.endless() {
		w.signal()
	}
	err := w.Transport.Publish(ctx, topic, msgs)
	if err == nil || errors.Is(err, transport.ErrOutcomeUnknown) {
		return err
	}
	var partial *transport.PublishError
	isPartial := errors.As(err, &partial)
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range msgs {
		if isPartial && partial.Errs[i] == nil {
			continue
		}
		w.journal.withdraw(entries[i])
		expect(&msgs[i], func(group string) { w.done(watchKey{topic, group, msgs[i].ID}) })
	}
	return err
}

// Subscribe implements transport.Transport.
func (w *watch) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	cfg.Lazy = false // the books go by the message
	sub, err := w.Transport.Subscribe(ctx, cfg)
	if err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !slices.Contains(w.groups[cfg.Topic], cfg.Group) {
		w.groups[cfg.Topic] = append(slices.Clip(w.groups[cfg.Topic]), cfg.Group)
	}
	return &watchedSub{Subscription: sub, w: w, topic: cfg.Topic, group: cfg.Group, given: map[uint64]watchKey{}}, nil
}

func (w *watch) begins(context.Context, *bus.Delivery) {}

func (w *watch) ended(topic, group, id string) {
	if !w.atMostOnce[group] {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done(watchKey{topic, group, id})
}

// watchedSub is a subscription of a watch.
type watchedSub struct {
	transport.Subscription
	w            *watch
	topic, group string
	given        map[uint64]watchKey // under w.mu
}

// Receive implements transport.Subscription.
func (s *watchedSub) Receive(ctx context.Context, most int) ([]transport.Delivery, error) {
	batch, err := s.Subscription.Receive(ctx, most)
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range batch {
		d := &batch[i]
		key := watchKey{s.topic, s.group, d.ID}
		o := w.open[key]
		if o == nil { // published before the probe watched, on a transport of the test's own
			o = w.add(s.topic, s.group, d.Message)
		}
		o.attempts, o.handling = d.Attempt, true
		s.given[d.Tag] = key
		w.deliveries++
		w.worst = max(w.worst, d.Attempt)
	}
	if w.deliveries >= maxDeliveries || w.worst >= maxAttempts {
		w.signal()
	}
	return batch, err
}

// Settle implements transport.Subscription.
func (s *watchedSub) Settle(ctx context.Context, settlements []transport.Settlement) error {
	err := s.Subscription.Settle(ctx, settlements)
	if err != nil {
		return err
	}
	w := s.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, settlement := range settlements {
		key, ok := s.given[settlement.Tag]
		if !ok {
			continue
		}
		delete(s.given, settlement.Tag)
		switch {
		case settlement.Outcome != transport.Ack:
			if o := w.open[key]; o != nil {
				o.handling = false
			}
		case !w.atMostOnce[s.group]:
			w.done(key)
		}
	}
	return nil
}
