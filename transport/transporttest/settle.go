package transporttest

import (
	"context"
	"math"

	"github.com/postbus/postbus/transport"
)

var settleChecks = []check{
	{"settle/exact", "an acknowledgement never covers a delivery that is not named.", checkExactAck},
	{"settle/exact after restart", "an acknowledgement never covers a delivery that is not named, also not in what is stored.", checkExactAckReopened},
	{"settle/any order", "deliveries may be settled in any order.", checkAnyOrder},
	{"settle/ack", "an acknowledged message does not come to this group again.", checkAck},
	{"settle/requeue", "Requeue brings the message again, unchanged, and the attempt counts.", checkRequeue},
	{"settle/release", "Release brings the message again, and is not counted as an attempt.", checkRelease},
	{"settle/zero outcome", "the zero Outcome loses nothing: it is Requeue.", checkZeroOutcome},
	{"settle/batch", "one Settle may hold several outcomes.", checkSettleBatch},
	{"settle/nothing", "Settle of nothing is no error.", checkSettleNothing},
	{"settle/unknown tags", "tags that are unknown are passed over, the others of the call are settled.", checkUnknownTags},
	{"settle/twice", "tags that are not valid any more are passed over: a delivery is settled once, as the first call said.", checkTwice},
	{"settle/other subscription", "a tag is valid within its own subscription only.", checkOtherSubscription},
	{"settle/late", "after Close a delivery cannot be settled any more, for its message comes again.", checkLateSettle},
	{"settle/again", "when Settle returned an error, the same call may be made again.", checkSettleAgain},
}

// three subscribes a new group and has three messages of one key in flight.
func (h *harness) three() (topic, group string, sub transport.Subscription, msgs []transport.Message, ds []transport.Delivery) {
	h.Helper()
	h.needInFlight(3)
	topic, group = h.name("topic"), h.name("group")
	sub = h.join(h.tr, topic, group)
	msgs = h.messages(3, "k")
	h.publish(h.tr, topic, msgs...)
	return topic, group, sub, msgs, h.expect(sub, msgs...)
}

func checkExactAck(h *harness) {
	h.need(!h.cfg.Ephemeral, "what is unsettled ends with the last subscription")
	topic, group, sub, msgs, ds := h.three()
	h.ack(sub, ds[0])
	h.ack(sub, ds[2])
	h.closeSub(sub)
	sub = h.join(h.tr, topic, group)
	h.ack(sub, h.expect(sub, msgs[1])...)
	h.quiet(sub, "#1 and #3 were acknowledged before, #2 now")
	h.closeSub(sub)
	h.quiet(h.join(h.tr, topic, group), "all was acknowledged")
}

func checkExactAckReopened(h *harness) {
	h.need(h.caps.Durable, "it is not durable")
	topic, group, sub, msgs, ds := h.three()
	h.ack(sub, ds[0], ds[2])
	h.closeTransport(h.tr)
	h.tr = h.open()
	sub = h.join(h.tr, topic, group)
	h.ack(sub, h.expect(sub, msgs[1])...)
	h.quiet(sub, "#1 and #3 were acknowledged before the restart, #2 now")
	h.closeTransport(h.tr)
	h.tr = h.open()
	h.quiet(h.join(h.tr, topic, group), "all was acknowledged before the restart")
}

func checkAnyOrder(h *harness) {
	topic, group, sub, _, ds := h.three()
	h.ack(sub, ds[2])
	h.ack(sub, ds[0])
	h.ack(sub, ds[1])
	m := h.messages(1, "k")
	h.publish(h.tr, topic, m...)
	h.ack(sub, h.expect(sub, m...)...)
	h.quiet(sub, "all was acknowledged")
	h.closeSub(sub)
	h.quiet(h.join(h.tr, topic, group), "all was acknowledged before the subscription was closed")
}

func checkAck(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	for range 3 {
		msgs := h.messages(4, "k")
		h.publish(h.tr, topic, msgs...)
		h.drain(sub, msgs...)
		h.quiet(sub, "all was acknowledged")
		h.closeSub(sub)
		sub = h.join(h.tr, topic, group)
		h.quiet(sub, "all was acknowledged before the subscription was closed")
	}
}

func checkRequeue(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := fullMessage(h)
	m.Attempts = 0
	h.publish(h.tr, topic, m)
	for attempt := 1; attempt <= 4; attempt++ {
		d := h.expect(sub, m)[0]
		h.attempt(d, attempt)
		h.same(d, m)
		if attempt < 4 {
			h.settle(sub, transport.Requeue, d)
		} else {
			h.ack(sub, d)
		}
	}
	h.quiet(sub, "it was acknowledged at last")
}

func checkRelease(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.messages(1, "k")[0]
	h.publish(h.tr, topic, m)
	d := h.expect(sub, m)[0]
	for range 2 {
		h.settle(sub, transport.Release, d)
		d = h.expect(sub, m)[0]
		h.attemptReleased(d, 1)
	}
	h.settle(sub, transport.Requeue, d)
	d = h.expect(sub, m)[0]
	h.attemptReleased(d, 2)
	h.settle(sub, transport.Release, d)
	d = h.expect(sub, m)[0]
	h.attemptReleased(d, 2)
	h.same(d, m)
	h.ack(sub, d)
	h.quiet(sub, "it was acknowledged at last")
}

func checkZeroOutcome(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.messages(1, "k")[0]
	h.publish(h.tr, topic, m)
	d := h.expect(sub, m)[0]
	h.must("Settle", func(ctx context.Context) error { return sub.Settle(ctx, []transport.Settlement{{Tag: d.Tag}}) })
	d = h.expect(sub, m)[0]
	h.attempt(d, 2)
	h.ack(sub, d)
}

func checkSettleBatch(h *harness) {
	_, _, sub, msgs, ds := h.three()
	h.must("Settle", func(ctx context.Context) error {
		return sub.Settle(ctx, []transport.Settlement{
			{Tag: ds[2].Tag, Outcome: transport.Release}, {Tag: ds[0].Tag, Outcome: transport.Ack},
			{Tag: ds[1].Tag, Outcome: transport.Requeue},
		})
	})
	ds = h.expect(sub, msgs[1:]...)
	h.attempt(ds[0], 2)
	h.attemptReleased(ds[1], 1)
	h.ack(sub, ds...)
	h.quiet(sub, "all was acknowledged")
}

func checkSettleNothing(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	h.settle(sub, transport.Ack)
	h.must("Settle", func(ctx context.Context) error { return sub.Settle(ctx, []transport.Settlement{}) })
}

func checkUnknownTags(h *harness) {
	_, _, sub, msgs, ds := h.three()
	unknown := []uint64{0, math.MaxUint64, math.MaxInt64, 1 << 62, 1<<63 | 7, ds[2].Tag + 1_000_000, ds[0].Tag ^ 1<<40}
	for _, outcome := range []transport.Outcome{transport.Requeue, transport.Release, transport.Ack} {
		var settlements []transport.Settlement
		for _, tag := range unknown {
			settlements = append(settlements, transport.Settlement{Tag: tag, Outcome: outcome})
		}
		if outcome == transport.Ack {
			settlements = append(settlements, transport.Settlement{Tag: ds[1].Tag, Outcome: transport.Ack})
		}
		h.must("Settle of unknown tags", func(ctx context.Context) error { return sub.Settle(ctx, settlements) })
	}
	h.quiet(sub, "only unknown tags were given back")
	h.settle(sub, transport.Requeue, ds...)
	got := h.expect(sub, msgs[0], msgs[2])
	h.ack(sub, got...)
	h.quiet(sub, "#2 was acknowledged among unknown tags, #1 and #3 now")
}

func checkTwice(h *harness) {
	_, _, sub, msgs, ds := h.three()
	h.ack(sub, ds[0])
	h.ack(sub, ds[0], ds[0])
	h.settle(sub, transport.Requeue, ds[0])
	h.settle(sub, transport.Release, ds[0])
	h.settle(sub, transport.Requeue, ds[1], ds[1])
	h.ack(sub, ds[1])
	again := h.expect(sub, msgs[1])[0]
	h.attempt(again, 2)
	h.ack(sub, ds[1]) // the tag of the first delivery
	h.settle(sub, transport.Requeue, again)
	again = h.expect(sub, msgs[1])[0]
	h.attempt(again, 3)
	h.ack(sub, again, ds[2])
	h.quiet(sub, "all was acknowledged")
}

func checkOtherSubscription(h *harness) {
	topic, group, sub, msgs, ds := h.three()
	for _, name := range []string{group, h.name("group")} {
		other := h.join(h.tr, topic, name)
		h.ack(other, ds[:2]...)
		h.settle(other, transport.Requeue, ds[2])
		h.closeSub(other)
	}
	h.quiet(sub, "another subscription gave back a tag that it does not have")
	h.settle(sub, transport.Requeue, ds...)
	h.ack(sub, h.expect(sub, msgs...)...)
}

func checkLateSettle(h *harness) {
	h.need(!h.cfg.Ephemeral, "what is unsettled ends with the last subscription")
	topic, group, sub, msgs, ds := h.three()
	h.closeSub(sub)
	late := func() {
		_ = h.do("Settle", h.cfg.Timeout, func(ctx context.Context) error {
			return sub.Settle(ctx, []transport.Settlement{{Tag: ds[0].Tag, Outcome: transport.Ack}, {Tag: ds[1].Tag}})
		})
	}
	late()
	next := h.join(h.tr, topic, group)
	got := h.expect(next, msgs...)
	late()
	h.quiet(next, "a settlement by the closed subscription must not give anything back")
	h.settle(next, transport.Requeue, got...)
	h.ack(next, h.expect(next, msgs...)...)
}

func checkSettleAgain(h *harness) {
	_, _, sub, msgs, ds := h.three()
	ended, cancel := context.WithCancel(h.Context())
	cancel()
	settlements := []transport.Settlement{{Tag: ds[0].Tag, Outcome: transport.Ack}, {Tag: ds[1].Tag, Outcome: transport.Requeue}}
	err := h.do("Settle", 0, func(context.Context) error { return sub.Settle(ended, settlements) })
	if err != nil {
		h.must("Settle again, after an error", func(ctx context.Context) error { return sub.Settle(ctx, settlements) })
	}
	again := h.expect(sub, msgs[1])[0]
	h.ack(sub, again, ds[2])
	h.quiet(sub, "all was acknowledged")
}
