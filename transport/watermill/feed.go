package watermill

import (
	"context"
	"fmt"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/transport"
)

type feedKey struct{ topic, group string }

// feed is Watermill's subscription of a group to a topic, shared by those of this process. It begins with the first of
// them and ends with the last.
type feed struct {
	t   *Transport
	key feedKey

	turn     chan struct{} // holds a token while somebody joins, leaves or renews
	members  int
	messages <-chan *message.Message // nil while there is none
	cancel   context.CancelFunc      // ends Watermill's subscription
	attempts attempts
}

func (f *feed) enter(ctx context.Context) error {
	select {
	case f.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *feed) exit() { <-f.turn }

// join makes s a member.
func (f *feed) join(ctx context.Context, s *subscription) error {
	if err := f.enter(ctx); err != nil {
		return err
	}
	defer f.exit()
	if f.messages == nil {
		if err := f.begin(ctx); err != nil {
			return err
		}
	}
	f.members++
	s.messages = f.messages
	f.t.mu.Lock()
	closed := f.t.closed
	if !closed {
		f.t.open[s] = true
	}
	f.t.mu.Unlock()
	if closed {
		f.drop()
		return transport.ErrClosed
	}
	return nil
}

// begin subscribes, with a context that lives as long as Watermill's subscription; ctx bounds the call only.
func (f *feed) begin(ctx context.Context) error {
	subscriber, err := f.t.subscriber(f.key.group)
	if err != nil {
		return err
	}
	type result struct {
		messages <-chan *message.Message
		err      error
	}
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	subscribed := make(chan result)
	given := make(chan struct{}) // up: nobody takes the result any more
	f.t.running.Go(func() {
		messages, err := subscriber.Subscribe(life, f.key.topic)
		select {
		case subscribed <- result{messages, err}:
		case <-given:
			if err == nil {
				discard(messages)
			}
		}
	})
	var r result
	select {
	case r = <-subscribed:
	case <-ctx.Done():
		r.err = ctx.Err()
		close(given)
	case <-f.t.done:
		r.err = transport.ErrClosed
		close(given)
	}
	if r.err != nil {
		cancel()
		return fmt.Errorf("watermill: subscribe group %q to %q: %w", f.key.group, f.key.topic, r.err)
	}
	f.messages, f.cancel = r.messages, cancel
	return nil
}

// renew subscribes again after Watermill has ended the subscription behind old by itself.
func (f *feed) renew(ctx context.Context, old <-chan *message.Message) (<-chan *message.Message, error) {
	if err := f.enter(ctx); err != nil {
		return nil, err
	}
	defer f.exit()
	if f.members == 0 { // they have left meanwhile: nobody would end what began now
		return nil, transport.ErrClosed
	}
	if f.messages != nil && f.messages == old {
		f.cancel()
		f.messages = nil
	}
	if f.messages == nil {
		if err := f.begin(ctx); err != nil {
			return nil, err
		}
	}
	return f.messages, nil
}

// leave ends a membership. It waits until Watermill's subscription has ended, if it was the last, but not for ever.
func (f *feed) leave(s *subscription) {
	_ = f.enter(context.Background())
	defer f.exit()
	f.t.mu.Lock()
	delete(f.t.open, s)
	f.t.mu.Unlock()
	f.drop()
	f.t.running.Done()
}

// drop ends Watermill's subscription with the last member.
func (f *feed) drop() {
	if f.members--; f.members > 0 || f.messages == nil {
		return
	}
	f.cancel()
	messages, ended := f.messages, make(chan struct{})
	f.messages = nil
	f.t.running.Go(func() {
		defer close(ended)
		discard(messages)
	})
	timer := time.NewTimer(closeTimeout)
	defer timer.Stop()
	select {
	case <-ended:
	case <-timer.C: // Transport.Close waits for it too, and reports it
	}
}

// discard gives back what comes until Watermill closes the channel.
func discard(messages <-chan *message.Message) {
	for msg := range messages {
		msg.Nack()
	}
}
