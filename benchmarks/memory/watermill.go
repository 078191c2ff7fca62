package memory

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/components/cqrs"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

const watermillTopic = "orders"

// newGoChannel makes Watermill's in-process Pub/Sub. Publishing does not wait for acknowledgements, which is its default
// and not slower than waiting.
func newGoChannel() *gochannel.GoChannel {
	return gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: channelSize}, watermill.NopLogger{})
}

// watermillCQRS gives each of the groups every event.
func watermillCQRS(groups int) bench.Contender {
	return func(ctx context.Context, r *bench.Run) error {
		var sinks []*sink
		var handlers []cqrs.EventHandler
		for i := range groups {
			s := newSink(r.N)
			sinks = append(sinks, s)
			handlers = append(handlers, cqrs.NewEventHandler(groupName(i),
				func(_ context.Context, e *placed) error { return s.handle(e.Cents) }))
		}
		return runCQRS(ctx, r, sinks, handlers, func(i int) any { return event(i) })
	}
}

// watermillCQRSKeyed does the work of our keyed handler, but for judging the order: Watermill promises none.
func watermillCQRSKeyed(ctx context.Context, r *bench.Run) error {
	s := &orderly{sink: newSink(r.N)}
	handler := cqrs.NewEventHandler(groupName(0),
		func(_ context.Context, e *keyedPlaced) error { return s.handle(e.Cents) })
	return runCQRS(ctx, r, []*sink{s.sink}, []cqrs.EventHandler{handler}, func(i int) any { return keyedEvent(i) })
}

// runCQRS sets the component up as its documentation does: EventBus, EventProcessor, Router, JSON.
func runCQRS(ctx context.Context, r *bench.Run, sinks []*sink, handlers []cqrs.EventHandler, event func(i int) any) error {
	logger := watermill.NopLogger{}
	marshaler := cqrs.JSONMarshaler{}
	pubSub := newGoChannel()
	router, err := message.NewRouter(message.RouterConfig{}, logger)
	if err != nil {
		return err
	}
	router.AddMiddleware(
		middleware.CorrelationID,
		middleware.Retry{MaxRetries: 3, InitialInterval: 100 * time.Millisecond, Logger: logger}.Middleware,
		middleware.Recoverer,
	)
	processor, err := cqrs.NewEventProcessorWithConfig(router, cqrs.EventProcessorConfig{
		GenerateSubscribeTopic: func(cqrs.EventProcessorGenerateSubscribeTopicParams) (string, error) {
			return watermillTopic, nil
		},
		SubscriberConstructor: func(cqrs.EventProcessorSubscriberConstructorParams) (message.Subscriber, error) {
			return pubSub, nil
		},
		Marshaler: marshaler,
		Logger:    logger,
	})
	if err != nil {
		return err
	}
	if err := processor.AddHandlers(handlers...); err != nil {
		return err
	}
	events, err := cqrs.NewEventBusWithConfig(pubSub, cqrs.EventBusConfig{
		GeneratePublishTopic: func(cqrs.GenerateEventPublishTopicParams) (string, error) { return watermillTopic, nil },
		Marshaler:            marshaler,
		Logger:               logger,
	})
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- router.Run(ctx) }()
	select {
	case <-router.Running():
	case err := <-ended:
		return err
	}
	r.Start()
	err = publishAll(ctx, r.N, func(i int) error { return events.Publish(ctx, event(i)) }, sinks)
	r.Stop(r.N * len(sinks))
	err = errors.Join(err, router.Close(), <-ended)
	for _, s := range sinks {
		err = errors.Join(err, s.verify())
	}
	return err
}

// watermillRaw is GoChannel without CQRS, router and middleware; the event is encoded and decoded by hand.
func watermillRaw(ctx context.Context, r *bench.Run) error {
	pubSub := newGoChannel()
	messages, err := pubSub.Subscribe(ctx, watermillTopic)
	if err != nil {
		return err
	}
	s := newSink(r.N)
	failed := make(chan error, 1)
	go func() {
		defer close(failed)
		for m := range messages {
			var e placed
			if err := json.Unmarshal(m.Payload, &e); err != nil {
				failed <- err
				return
			}
			_ = s.handle(e.Cents)
			m.Ack()
		}
	}()
	r.Start()
	err = publishAll(ctx, r.N, func(i int) error {
		payload, err := json.Marshal(event(i))
		if err != nil {
			return err
		}
		return pubSub.Publish(watermillTopic, message.NewMessage(watermill.NewUUID(), payload))
	}, []*sink{s})
	r.Stop(r.N)
	return errors.Join(err, pubSub.Close(), <-failed, s.verify())
}
