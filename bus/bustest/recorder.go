package bustest

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
)

// Recorder is a bus.Publisher that records what is published and delivers nothing. Its zero value is ready to use. It
// refuses what a bus refuses before it encodes, by the same errors, and fills the envelope as a bus does: ids, correlation, causation.
// Its methods may be called concurrently.
type Recorder struct {
	// Err, if not nil, is what publishing fails with; nothing is recorded then. Publish wraps it, as a bus wraps the
	// errors of its transport. It must not be changed while others publish.
	Err error

	mu       sync.Mutex
	messages []Message
}

var _ bus.Publisher = (*Recorder)(nil)

// Publish implements bus.Publisher. It records all events or, if it returns an error, none.
func (r *Recorder) Publish(ctx context.Context, events ...bus.Event) error {
	// A bus makes the messages, so that the two never differ. It lives for one call: a longer life would tie the
	// Recorder to the bubble of testing/synctest in which it was used first.
	b, err := bus.New(bus.Config{
		Transport: recording{recorder: r},
		Topic:     func(string) string { return "recorded" }, // one for all, so that events keep their order
	})
	if err != nil {
		return err
	}
	if err := b.Start(ctx); err != nil {
		return err
	}
	err = b.Publish(ctx, events...)
	return errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
}

// Messages returns what was published, in order, in its envelopes.
func (r *Recorder) Messages() []Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.messages)
}

func (r *Recorder) fail(err error) { panic(err) }

// recording is the transport of a Recorder.
type recording struct{ recorder *Recorder }

// Capabilities implements transport.Transport.
func (recording) Capabilities() transport.Capabilities {
	return transport.Capabilities{Delay: true, Target: true, Values: true}
}

// Publish implements transport.Transport.
func (t recording) Publish(_ context.Context, topic string, msgs []transport.Message) error {
	if err := transport.CheckBatch(t.Capabilities(), topic, msgs); err != nil {
		return err
	}
	r := t.recorder
	if r.Err != nil {
		return r.Err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range msgs {
		r.messages = append(r.messages, Message{Message: m, Topic: bus.TopicOf(m.Name), codecs: []codec.Codec{codec.JSON}})
	}
	return nil
}

// Subscribe implements transport.Transport.
func (recording) Subscribe(context.Context, transport.SubscribeConfig) (transport.Subscription, error) {
	return nil, transport.ErrUnsupported
}

// Close implements transport.Transport.
func (recording) Close() error { return nil }
