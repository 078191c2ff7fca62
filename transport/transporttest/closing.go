package transporttest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

var closeChecks = []check{
	{"close/idempotent", "Close is idempotent, that of a subscription and that of a transport.", checkIdempotent},
	{"close/gives back", "Close gives back what is unsettled, as if released: it comes to the next subscription.", checkGivesBack},
	{"close/to the other", "what a closed subscription gives back comes to the other ones of the group, also to one that waits.", checkGivesToWaiting},
	{"close/only itself", "closing a subscription changes nothing for other groups and other topics.", checkClosesOnlyItself},
	{"close/transport", "Transport.Close closes what the transport holds; all that is called afterwards returns.", checkCloseTransport},
	{"close/at once", "Close may be called at any time by any goroutine.", checkCloseAtOnce},
}

func checkIdempotent(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	first, second := h.join(h.tr, topic, group), h.join(h.tr, topic, group)
	for range 3 {
		h.closeSub(first)
	}
	for range 3 {
		h.closeTransport(h.tr)
	}
	h.closeSub(first)
	err := h.do("Subscription.Close", h.cfg.Timeout, func(context.Context) error { return second.Close() })
	if err != nil && !errors.Is(err, transport.ErrClosed) {
		h.broken("Subscription.Close after Transport.Close: %v", err)
	}
}

func checkGivesBack(h *harness) {
	h.need(!h.cfg.Ephemeral, "what is unsettled ends with the last subscription")
	topic, group, sub, msgs, ds := h.three()
	h.ack(sub, ds[1])
	h.closeSub(sub)
	sub = h.join(h.tr, topic, group)
	ds = h.expect(sub, msgs[0], msgs[2])
	for i, d := range ds {
		h.attemptReleased(d, 1)
		h.same(d, msgs[2*i])
	}
	h.settle(sub, transport.Requeue, ds...)
	h.expect(sub, msgs[0], msgs[2])
	h.closeSub(sub)
	sub = h.join(h.tr, topic, group)
	for _, d := range h.expect(sub, msgs[0], msgs[2]) {
		h.attemptReleased(d, 2)
		h.ack(sub, d)
	}
	h.quiet(sub, "all was acknowledged")
}

func checkGivesToWaiting(h *harness) {
	topic, group, sub, msgs, _ := h.three()
	other := h.join(h.tr, topic, group)
	acked, stop := h.consumers(ackAll, other)
	pause(h.cfg.Quiet) // so that it waits
	h.closeSub(sub)
	h.collect(acked, msgs)
	stop()
}

func checkClosesOnlyItself(h *harness) {
	topic, _, sub, msgs, _ := h.three()
	other, elsewhere := h.join(h.tr, topic, h.name("group")), h.name("topic")
	third := h.join(h.tr, elsewhere, h.name("group"))
	if h.caps.Replay {
		h.drain(other, msgs...)
	}
	msgs = h.messages(2, "")
	h.publish(h.tr, topic, msgs[0])
	h.publish(h.tr, elsewhere, msgs[1])
	d := h.expect(other, msgs[0])
	h.closeSub(sub)
	h.ack(third, h.expect(third, msgs[1])...)
	h.quiet(other, "its delivery is not settled")
	h.settle(other, transport.Requeue, d...)
	h.ack(other, h.expect(other, msgs[0])...)
}

func checkCloseTransport(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.messages(1, "")
	h.publish(h.tr, topic, m...)
	d := h.expect(sub, m...)
	h.closeTransport(h.tr)
	err := h.do("Settle", h.cfg.Timeout, func(ctx context.Context) error {
		return sub.Settle(ctx, []transport.Settlement{{Tag: d[0].Tag, Outcome: transport.Ack}})
	})
	if err == nil && h.caps.Durable {
		h.broken("Settle on a closed transport returned nil, but nothing can be settled any more")
	}
	if _, err := h.tr.Subscribe(h.Context(), transport.SubscribeConfig{Topic: topic, Group: group}); !errors.Is(err, transport.ErrClosed) {
		h.broken("Subscribe on a closed transport returned %v", err)
	}
	if err := h.tryPublish(h.tr, topic, m); !errors.Is(err, transport.ErrClosed) {
		h.broken("Publish on a closed transport returned %v", err)
	}
	if err := h.tryPublish(h.tr, topic, nil); err != nil && !errors.Is(err, transport.ErrClosed) {
		h.broken("Publish of nothing on a closed transport returned %v", err)
	}
}

// checkCloseAtOnce closes everything while everything is in use.
func checkCloseAtOnce(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	var subs []transport.Subscription
	for range 4 {
		subs = append(subs, h.join(h.tr, topic, group))
	}
	ended, warm := make(chan error, 20), make(chan error, 1)
	var seen atomic.Int64
	for _, sub := range subs {
		go func() {
			ended <- settleEach(h.Context(), sub, func(transport.Delivery) transport.Outcome {
				if seen.Add(1) == 20 {
					warm <- nil
				}
				return transport.Ack
			})
		}()
	}
	for range 2 {
		go func() {
			for {
				if err := h.tr.Publish(h.Context(), topic, h.messages(3, "k")); err != nil {
					ended <- err
					return
				}
			}
		}()
	}
	_ = h.wait("a consumer, although messages are published,", warm)
	closed := make(chan error, 20)
	for i := range 4 {
		go func() { closed <- subs[i%3].Close() }()
	}
	for range 3 {
		go func() { closed <- h.tr.Close() }()
	}
	for range 7 {
		if err := h.wait("Close", closed); err != nil && !errors.Is(err, transport.ErrClosed) {
			h.broken("Close while all is in use: %v", err)
		}
	}
	for range 6 {
		if err := h.wait("what was under way when the transport was closed", ended); !errors.Is(err, transport.ErrClosed) && !errors.Is(err, transport.ErrOutcomeUnknown) {
			h.broken("what was under way when the transport was closed ended with %v", err)
		}
	}
}

// pause lets time pass, where time itself is what is tested or a goroutine shall be found waiting.
func pause(d time.Duration) { <-time.After(d) }
