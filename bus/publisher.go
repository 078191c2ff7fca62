package bus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
)

// PublishHandler hands messages of one topic on; its duties are those of transport.Transport's Publish.
type PublishHandler func(ctx context.Context, topic string, msgs []transport.Message) error

// PublishMiddleware wraps publishing, as Middleware wraps handling. What it returns runs for every batch, concurrently;
// it may hand on changed copies of the messages.
type PublishMiddleware func(PublishHandler) PublishHandler

// PublisherConfig configures NewPublisher.
type PublisherConfig struct {
	// Publish takes the messages, a batch of one topic at a time. Required.
	Publish PublishHandler
	// Capabilities are those of the transport behind Publish. What it cannot carry is refused. With Values, events are
	// not encoded.
	Capabilities transport.Capabilities
	// Codecs, Topic and Publishing are as in Config.
	Codecs     []codec.Codec
	Topic      func(eventName string) string
	Publishing []PublishMiddleware
}

// NewPublisher returns a Publisher that makes messages of events as Bus.Publish does, ids, correlation and trace context
// included, and hands them to a function instead of a transport: to write them within a transaction, say.
func NewPublisher(cfg PublisherConfig) (Publisher, error) {
	err := (&Config{Codecs: cfg.Codecs, Publishing: cfg.Publishing}).check()
	if err == nil && cfg.Publish == nil {
		err = fmt.Errorf("%w configuration: PublisherConfig.Publish is missing", ErrInvalid)
	}
	if err != nil {
		return nil, err
	}
	p, err := newPublisher(cfg)
	if err != nil {
		return nil, err
	}
	p.checks = true
	return p, nil
}

// publisher makes messages of events and hands them over.
type publisher struct {
	codecs   []codec.Codec
	topic    func(eventName string) string
	caps     transport.Capabilities
	handOver PublishHandler
	checks   bool                    // handOver does not check messages, as a transport does
	lazy     transport.LazyPublisher // nil unless events travel by reference
	clock    *clock
	routing  sync.Mutex
	routes   atomic.Pointer[map[string]*route]
}

func newPublisher(cfg PublisherConfig) (*publisher, error) {
	p := &publisher{codecs: slices.Clone(cfg.Codecs), topic: cfg.Topic, caps: cfg.Capabilities, handOver: cfg.Publish, clock: newClock()}
	if len(p.codecs) == 0 {
		p.codecs = []codec.Codec{codec.JSON}
	}
	if p.topic == nil {
		p.topic = TopicOf
	}
	p.routes.Store(&map[string]*route{})
	var err error
	p.handOver, err = wrap(p.handOver, "Publishing", cfg.Publishing)
	return p, err
}

// Publish implements Publisher; see Bus.Publish.
func (p *publisher) Publish(ctx context.Context, events ...Event) error {
	if len(events) == 0 {
		return nil
	}
	err := p.publish(ctx, events)
	if errors.Is(err, ErrInvalid) || errors.Is(err, transport.ErrTooLarge) || errors.Is(err, transport.ErrUnsupported) {
		return Permanent(err)
	}
	return err
}

func (p *publisher) publish(ctx context.Context, events []Event) error {
	if p.lazy != nil && len(events) == 1 {
		if done, err := p.publishLetter(ctx, events[0]); done {
			return err
		}
	}
	msgs, topic, err := p.prepare(ctx, events)
	if err != nil {
		return err
	}
	if topic == "" {
		return p.publishTopics(ctx, msgs)
	}
	return p.send(ctx, topic, msgs)
}

func (p *publisher) send(ctx context.Context, topic string, msgs []transport.Message) error {
	if err := p.handOver(ctx, topic, msgs); err != nil {
		return fmt.Errorf("bus: publish %q: %w", msgs[0].Name, asInvalid(err))
	}
	return nil
}

// publishTopics publishes a batch of several topics, each topic's messages together and in order.
func (p *publisher) publishTopics(ctx context.Context, msgs []transport.Message) error {
	var order []string
	byTopic := map[string][]transport.Message{}
	for _, m := range msgs {
		r, err := p.route(m.Name)
		if err != nil {
			return err
		}
		if byTopic[r.topic] == nil {
			order = append(order, r.topic)
		}
		byTopic[r.topic] = append(byTopic[r.topic], m)
	}
	var errs []error
	for _, topic := range order {
		if err := p.send(ctx, topic, byTopic[topic]); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
