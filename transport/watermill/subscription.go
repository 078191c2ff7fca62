package watermill

import (
	"context"
	"crypto/sha256"
	"maps"
	"slices"
	"sync"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// subscription is one member of a feed. It has no goroutine: Receive takes from Watermill's channel.
type subscription struct {
	feed     *feed
	prefetch int
	done     chan struct{}
	room     chan struct{} // a settlement has made room

	mu        sync.Mutex
	closed    bool
	messages  <-chan *message.Message
	tag       uint64
	unsettled map[uint64]held
}

// held is a delivery that is not settled.
type held struct {
	msg *message.Message
	id  string // by which it is counted
}

func newSubscription(f *feed, prefetch int) *subscription {
	return &subscription{
		feed: f, prefetch: prefetch, done: make(chan struct{}), room: make(chan struct{}, 1), unsettled: map[uint64]held{},
	}
}

// Receive implements transport.Subscription. If Watermill has ended the subscription by itself, it begins a new one.
func (s *subscription) Receive(ctx context.Context, limit int) ([]transport.Delivery, error) {
	var out []transport.Delivery
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s.mu.Lock()
		closed, room, messages := s.closed, s.prefetch-len(s.unsettled), s.messages
		s.mu.Unlock()
		if closed {
			return nil, transport.ErrClosed
		}
		if room <= 0 {
			select {
			case <-s.room:
			case <-s.done:
			case <-ctx.Done():
			}
			continue
		}
		select {
		case msg, ok := <-messages:
			if !ok {
				if err := s.renew(ctx, messages); err != nil {
					return nil, err
				}
				continue
			}
			out = s.accept(out, msg)
		case <-s.done:
		case <-ctx.Done():
		}
		if out = s.more(out, messages, min(limit, room)); len(out) > 0 {
			return out, nil
		}
	}
}

// more adds to a delivery what is there already.
func (s *subscription) more(out []transport.Delivery, messages <-chan *message.Message, limit int) []transport.Delivery {
	for len(out) > 0 && len(out) < limit {
		select {
		case msg, ok := <-messages:
			if !ok {
				return out
			}
			out = s.accept(out, msg)
		default:
			return out
		}
	}
	return out
}

func (s *subscription) renew(ctx context.Context, old <-chan *message.Message) error {
	select {
	case <-s.done:
		return transport.ErrClosed
	default:
	}
	messages, err := s.feed.renew(ctx, old)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.messages = messages
	return nil
}

// accept makes a delivery of a message and appends it; one that comes too late or is for another group is none.
func (s *subscription) accept(out []transport.Delivery, msg *message.Message) []transport.Delivery {
	// The map is copied because Decode changes it, and the Pub/Sub may send the same message again.
	m := wire.Decode(msg.UUID, maps.Clone(msg.Metadata), msg.Payload)
	if m.TargetGroup != "" && m.TargetGroup != s.feed.key.group {
		msg.Ack()
		return out
	}
	id := m.ID
	if id == "" {
		// Two messages without UUID may be equal and yet be two: so they get IDs of their own, and it is the counting
		// only that takes them for one.
		id, m.ID = fingerprint(msg), watermill.NewUUID()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		msg.Nack()
		return out
	}
	s.tag++
	s.unsettled[s.tag] = held{msg, id}
	return append(out, transport.Delivery{Message: &m, Tag: s.tag, Attempt: m.Attempts + s.feed.attempts.add(id)})
}

func fingerprint(msg *message.Message) string {
	h := sha256.New()
	for _, k := range slices.Sorted(maps.Keys(msg.Metadata)) {
		h.Write([]byte(k + "\x00" + msg.Metadata[k] + "\x00"))
	}
	h.Write(msg.Payload)
	return string(h.Sum(nil))
}

// Settle implements transport.Subscription. Watermill's acknowledgements are immediate and report no error.
func (s *subscription) Settle(_ context.Context, settlements []transport.Settlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return transport.ErrClosed
	}
	for _, x := range settlements {
		h, ok := s.unsettled[x.Tag]
		if !ok {
			continue
		}
		delete(s.unsettled, x.Tag)
		s.settle(h, x.Outcome)
	}
	select {
	case s.room <- struct{}{}:
	default: // it has yet to look
	}
	return nil
}

// settle changes the count before the message can come again.
func (s *subscription) settle(h held, outcome transport.Outcome) {
	switch outcome {
	case transport.Ack:
		s.feed.attempts.forget(h.id)
		h.msg.Ack()
	case transport.Release:
		s.feed.attempts.release(h.id)
		h.msg.Nack()
	default:
		h.msg.Nack()
	}
}

// Close implements transport.Subscription.
func (s *subscription) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.done)
	for _, h := range s.unsettled {
		s.settle(h, transport.Release)
	}
	clear(s.unsettled)
	s.mu.Unlock()
	s.feed.leave(s)
	return nil
}
