package transporttest

import (
	"context"
	"errors"
	"time"

	"github.com/postbus/postbus/transport"
)

var receiveChecks = []check{
	{"receive/blocks", "Receive blocks until there is at least one delivery.", checkReceiveBlocks},
	{"receive/max", "Receive returns what is there, up to max.", checkReceiveMax},
	{"receive/several in flight", "many deliveries may be unsettled at once.", checkInFlight},
	{"receive/context", "Receive returns the error of ctx when that ends.", checkReceiveContext},
	{"receive/context loses nothing", "no delivery is lost when the context of Receive ends.", checkReceiveLosesNothing},
	{"receive/closed subscription", "Receive, also a waiting one, returns ErrClosed once the subscription is closed.", checkReceiveClosedSub},
	{"receive/closed transport", "Receive, also a waiting one, returns ErrClosed once the transport is closed.", checkReceiveClosedTransport},
	{"receive/changes nothing", "a message that came from Receive is not changed, also not when it comes again.", checkReceivedUnchanged},
	{"receive/tags", "a tag names one delivery within its subscription.", checkTags},
}

func checkReceiveBlocks(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	for range 3 { // waiting, idle, waiting again
		h.quiet(sub, "nothing was published")
		received := make(chan error, 1)
		var got []transport.Delivery
		go func() {
			var err error
			got, err = sub.Receive(h.Context(), 10)
			received <- err
		}()
		pause(h.cfg.Quiet / 4) // so that it waits
		m := h.messages(1, "")
		h.publish(h.tr, topic, m...)
		if err := h.wait("Receive, although a message was published,", received); err != nil {
			h.broken("Receive: %v", err)
		}
		h.compare(got, m)
		h.ack(sub, got...)
	}
}

func checkReceiveMax(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(9, "k")
	h.publish(h.tr, topic, msgs...)
	var got []transport.Delivery
	for _, limit := range []int{1, 2, 3, 100} {
		for until := min(len(got)+limit, len(msgs)); len(got) < until; {
			var ds []transport.Delivery
			h.must("Receive", func(ctx context.Context) (err error) {
				ds, err = sub.Receive(ctx, limit)
				return err
			})
			if len(ds) == 0 || len(ds) > limit {
				h.broken("Receive with max %d returned %d deliveries", limit, len(ds))
			}
			h.ack(sub, ds...)
			got = append(got, ds...)
		}
	}
	h.compare(got, msgs)
}

func checkInFlight(h *harness) {
	h.needInFlight(5)
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(5, "one key")
	for _, m := range msgs {
		h.publish(h.tr, topic, m)
	}
	ds := h.expect(sub, msgs...)
	h.ack(sub, ds...)
	h.quiet(sub, "all was acknowledged")
}

func checkReceiveContext(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	h.quiet(sub, "nothing was published")
	ctx, cancel := context.WithCancel(h.Context())
	received := make(chan error, 1)
	go func() {
		_, err := sub.Receive(ctx, 10)
		received <- err
	}()
	pause(h.cfg.Quiet / 4) // so that it waits
	cancel()
	if err := h.wait("Receive, although its context was cancelled,", received); !errors.Is(err, context.Canceled) {
		h.broken("Receive whose context was cancelled returned %v", err)
	}
	err := h.do("Receive", 0, func(context.Context) error {
		_, err := sub.Receive(ctx, 10)
		return err
	})
	if !errors.Is(err, context.Canceled) {
		h.broken("Receive whose context had been cancelled before returned %v", err)
	}
}

func checkReceiveLosesNothing(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(60, "k")
	published := make(chan error, 1)
	go func() {
		for i := range msgs {
			if err := h.tr.Publish(h.Context(), topic, msgs[i:i+1]); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	// Contexts end again and again while messages come in: some before the call, the others each a little later.
	ended, cancel := context.WithCancel(h.Context())
	cancel()
	var got []transport.Delivery
	limit, deadline := 10*time.Microsecond, time.Now().Add(h.cfg.Timeout) // for the next delivery
	for n := 0; len(got) < len(msgs) && time.Now().Before(deadline); n++ {
		var ds []transport.Delivery
		err := h.do("Receive", limit, func(ctx context.Context) (err error) {
			if n%2 == 0 {
				ctx = ended
			}
			ds, err = sub.Receive(ctx, 2)
			return err
		})
		switch {
		case err == nil:
			h.ack(sub, ds...)
			got = append(got, ds...)
			limit, deadline = max(limit/2, 10*time.Microsecond), time.Now().Add(h.cfg.Timeout)
		case errors.Is(err, context.DeadlineExceeded):
			limit = min(2*limit, h.cfg.Timeout/4)
		case !errors.Is(err, context.Canceled):
			h.broken("Receive: %v", err)
		}
	}
	if err := h.wait("Publish", published); err != nil {
		h.broken("Publish: %v", err)
	}
	h.compare(got, msgs)
	h.quiet(sub, "all has come")
}

func checkReceiveClosedSub(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub, other := h.join(h.tr, topic, group), h.join(h.tr, topic, h.name("group"))
	h.closedBy(sub, "Subscription.Close", func() { h.closeSub(sub) })
	m := h.messages(1, "")
	h.publish(h.tr, topic, m...)
	h.ack(other, h.expect(other, m...)...)
}

func checkReceiveClosedTransport(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	h.closedBy(sub, "Transport.Close", func() { h.closeTransport(h.tr) })
}

// closedBy checks that Receive returns ErrClosed, a waiting one and a later one.
func (h *harness) closedBy(sub transport.Subscription, what string, shut func()) {
	h.Helper()
	h.quiet(sub, "nothing was published")
	received := make(chan error, 1)
	go func() {
		_, err := sub.Receive(h.Context(), 10)
		received <- err
	}()
	pause(h.cfg.Quiet / 4) // so that it waits
	shut()
	if err := h.wait("a waiting Receive, after "+what+",", received); !errors.Is(err, transport.ErrClosed) {
		h.broken("a waiting Receive returned %v after %s", err, what)
	}
	err := h.do("Receive", h.cfg.Timeout, func(ctx context.Context) error {
		_, err := sub.Receive(ctx, 10)
		return err
	})
	if !errors.Is(err, transport.ErrClosed) {
		h.broken("Receive returned %v after %s", err, what)
	}
}

func checkTags(h *harness) {
	h.needInFlight(4)
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(4, "k")
	h.publish(h.tr, topic, msgs...)
	used := map[uint64]string{}
	see := func(ds []transport.Delivery) {
		for _, d := range ds {
			if before, twice := used[d.Tag]; twice {
				h.broken("%s was delivered with tag %d, which %s has had", h.label(d.ID), d.Tag, before)
			}
			used[d.Tag] = h.label(d.ID)
		}
	}
	ds := h.expect(sub, msgs...)
	see(ds)
	h.ack(sub, ds[:2]...)
	h.settle(sub, transport.Requeue, ds[2:]...)
	ds = h.expect(sub, msgs[2:]...)
	see(ds)
	h.ack(sub, ds...)
	msgs = h.messages(4, "k")
	h.publish(h.tr, topic, msgs...)
	see(h.expect(sub, msgs...))
}

func checkReceivedUnchanged(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub, other := h.join(h.tr, topic, group), h.join(h.tr, topic, h.name("group"))
	m := fullMessage(h)
	h.publish(h.tr, topic, m)
	first := h.expect(sub, m)[0]
	h.settle(sub, transport.Requeue, first)
	again := h.expect(sub, m)[0]
	h.same(first, m)
	h.settle(other, transport.Requeue, h.expect(other, m)...)
	h.ack(other, h.expect(other, m)...)
	h.same(again, m)
	h.ack(sub, again)
	h.same(first, m)
	h.same(again, m)
}
