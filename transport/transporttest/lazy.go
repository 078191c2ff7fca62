package transporttest

import (
	"context"
	"errors"

	"github.com/postbus/postbus/transport"
)

var lazyChecks = []check{
	{"lazy/deliveries", "what PublishLazy published comes as Delivery.Lazy to a subscription with SubscribeConfig.Lazy, and as Delivery.Message to others.", checkLazy},
	{"lazy/outcomes", "what PublishLazy published is given back and comes again as any message, with its attempts.", checkLazyOutcomes},
	{"lazy/order", "what PublishLazy published has its place in the order among messages.", checkLazyOrder},
	{"lazy/closed", "once the transport is closed, PublishLazy returns ErrClosed.", checkLazyClosed},
	{"lazy/takeover", "a delivery that was given back by a subscription with Lazy comes to one without as a message.", checkLazyTakeover},
}

// envelope is a lazy message that is made already.
type envelope struct{ m *transport.Message }

func (e envelope) Message() *transport.Message { return e.m }

// needLazy skips the check unless the transport is a LazyPublisher, and returns what publishes one message.
func (h *harness) needLazy() (publish func(topic string, m transport.Message) transport.Lazy) {
	h.Helper()
	publisher, ok := h.tr.(transport.LazyPublisher)
	h.need(ok && h.caps.Values, "it publishes nothing lazily")
	return func(topic string, m transport.Message) transport.Lazy {
		lazy := envelope{&m}
		h.must("PublishLazy", func(ctx context.Context) error { return publisher.PublishLazy(ctx, topic, lazy) })
		return lazy
	}
}

func (h *harness) joinLazy(topic, group string) transport.Subscription {
	h.Helper()
	return h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: group, Lazy: true})
}

// receiveLazy gets one delivery that must be lazy.
func (h *harness) receiveLazy(sub transport.Subscription, want transport.Lazy) (d transport.Delivery) {
	h.Helper()
	h.must("Receive", func(ctx context.Context) error {
		ds, err := sub.Receive(ctx, 1)
		if err == nil {
			d = ds[0]
		}
		return err
	})
	if d.Lazy != want || d.Message != nil {
		h.broken("the delivery has Lazy %v and Message %v, want the Lazy that was published and no message", d.Lazy, d.Message)
	}
	return d
}

func checkLazy(h *harness) {
	publish := h.needLazy()
	topic := h.name("topic")
	lazy, other := h.joinLazy(topic, h.name("group")), h.join(h.tr, topic, h.name("group"))
	m := fullMessage(h)
	m.Attempts, m.Value, m.Payload = 0, &m, nil
	published := publish(topic, m)
	d := h.receiveLazy(lazy, published)
	h.attempt(d, 1)
	h.ack(lazy, d)
	d = h.expect(other, m)[0]
	if d.Lazy != nil {
		h.broken("a subscription without SubscribeConfig.Lazy was given Delivery.Lazy")
	}
	h.same(d, m)
	h.attempt(d, 1)
	if d.Value != m.Value {
		h.broken("Value came as %v, want the pointer that was published", d.Value)
	}
	h.ack(other, d)
	h.quiet(lazy, "all was acknowledged")
	h.quiet(other, "all was acknowledged")
}

func checkLazyOutcomes(h *harness) {
	publish := h.needLazy()
	topic := h.name("topic")
	lazy, other := h.joinLazy(topic, h.name("group")), h.join(h.tr, topic, h.name("group"))
	m := h.messages(1, "k")[0]
	published := publish(topic, m)
	for attempt, outcome := range []transport.Outcome{transport.Requeue, transport.Requeue, transport.Ack} {
		d := h.receiveLazy(lazy, published)
		h.attempt(d, attempt+1)
		h.settle(lazy, outcome, d)
		d = h.expect(other, m)[0]
		h.attempt(d, attempt+1)
		h.settle(other, outcome, d)
	}
	h.quiet(lazy, "all was acknowledged")
	h.quiet(other, "all was acknowledged")
}

func checkLazyOrder(h *harness) {
	publish := h.needLazy()
	h.needOrder()
	topic := h.name("topic")
	sub := h.join(h.tr, topic, h.name("group"))
	msgs := h.messages(30, "k")
	for i, m := range msgs {
		if i%3 == 1 {
			publish(topic, m)
		} else {
			h.publish(h.tr, topic, m)
		}
	}
	ds := h.expect(sub, msgs...)
	h.settle(sub, transport.Requeue, ds[4], ds[1], ds[0])
	h.ack(sub, h.expect(sub, msgs[0], msgs[1], msgs[4])...)
}

func checkLazyClosed(h *harness) {
	h.needLazy()
	topic := h.name("topic")
	h.join(h.tr, topic, h.name("group"))
	h.closeTransport(h.tr)
	m := h.messages(1, "")[0]
	err := h.do("PublishLazy", h.cfg.Timeout, func(ctx context.Context) error {
		return h.tr.(transport.LazyPublisher).PublishLazy(ctx, topic, envelope{&m})
	})
	if !errors.Is(err, transport.ErrClosed) {
		h.broken("PublishLazy on a closed transport returned %v", err)
	}
}

func checkLazyTakeover(h *harness) {
	publish := h.needLazy()
	topic, group := h.name("topic"), h.name("group")
	sub := h.joinLazy(topic, group)
	m := h.messages(1, "k")[0]
	published := publish(topic, m)
	h.settle(sub, transport.Requeue, h.receiveLazy(sub, published))
	h.receiveLazy(sub, published)
	h.closeSub(sub)
	sub = h.join(h.tr, topic, group)
	d := h.expect(sub, m)[0]
	h.attemptReleased(d, 2)
	h.same(d, m)
	h.ack(sub, d)
}
