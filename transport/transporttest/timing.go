package transporttest

import (
	"time"

	"github.com/postbus/postbus/transport"
)

var timingChecks = []check{
	{"delay/not before", "a message is not delivered before its NotBefore, and is delivered then.", checkDelay},
	{"delay/overtaken", "messages that are due do not wait for one that is not.", checkDelayOvertaken},
	{"delay/past", "a NotBefore in the past delays nothing.", checkDelayPast},
	{"delay/nobody there", "a message becomes due also while its group has no subscription.", checkDelayNobody},
	{"delay/new subscription", "a message is not delivered before its NotBefore, also not to a subscription that begins meanwhile.", checkDelayResubscribe},
	{"delay/requeue", "after its NotBefore a message is like any other: requeued, it comes again at once.", checkDelayRequeue},
	{"target/only", "a message with TargetGroup is delivered to that group only.", checkTarget},
	{"target/order", "a message with TargetGroup has its place in the order of that group.", checkTargetOrder},
	{"target/later", "NotBefore and TargetGroup hold together.", checkTargetLater},
}

// later makes a message that is due after Config.Delay.
func (h *harness) later() transport.Message {
	m := h.messages(1, "")[0]
	m.NotBefore = now().Add(h.cfg.Delay)
	return m
}

// due gets the one delayed message and checks the time at which it comes.
func (h *harness) due(sub transport.Subscription, m transport.Message) transport.Delivery {
	h.Helper()
	d := h.expect(sub, m)[0]
	h.notEarly(m)
	h.same(d, m)
	h.attempt(d, 1)
	return d
}

func (h *harness) notEarly(m transport.Message) {
	h.Helper()
	if early := time.Until(m.NotBefore); early > h.cfg.Clock {
		h.broken("%s came %s before its NotBefore", h.label(m.ID), early)
	}
}

func checkDelay(h *harness) {
	h.need(h.caps.Delay, "it cannot delay")
	topic, group := h.name("topic"), h.name("group")
	sub, other := h.join(h.tr, topic, group), h.join(h.tr, topic, h.name("group"))
	m := h.later()
	h.publish(h.tr, topic, m)
	h.ack(sub, h.due(sub, m))
	h.ack(other, h.due(other, m))
	h.quiet(sub, "it has come")
}

func checkDelayOvertaken(h *harness) {
	h.need(h.caps.Delay, "it cannot delay")
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	// What comes after the delayed message may have waited for it, or be slow: then with a longer delay it comes before.
	for delay := h.cfg.Delay; ; delay *= 4 {
		m, rest := h.messages(1, "")[0], h.messages(3, "k")
		m.NotBefore = now().Add(delay)
		h.publish(h.tr, topic, append([]transport.Message{m}, rest[:2]...)...)
		h.publish(h.tr, topic, rest[2:]...)
		var got []transport.Delivery
		overtaken := 0
		for range 4 {
			d := h.receive(sub, 1)[0]
			if d.ID == m.ID {
				h.notEarly(m)
				h.same(d, m)
				overtaken = len(got)
			}
			h.attempt(d, 1)
			h.ack(sub, d)
			got = append(got, d)
		}
		if overtaken == len(rest) {
			h.compare(got, append(rest, m))
			return
		}
		if 4*delay > h.cfg.Timeout/2 {
			h.broken("%s was for %s later, but %d messages that were due at once came after it:%s", h.label(m.ID), delay, len(rest)-overtaken, h.list(got))
		}
	}
}

func checkDelayPast(h *harness) {
	h.need(h.caps.Delay, "it cannot delay")
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(2, "k")
	msgs[0].NotBefore, msgs[1].NotBefore = now().Add(-time.Hour), time.Unix(1, 0)
	h.publish(h.tr, topic, msgs...)
	for i, d := range h.drain(sub, msgs...) {
		h.same(d, msgs[i])
	}
}

func checkDelayNobody(h *harness) {
	h.need(h.caps.Delay, "it cannot delay")
	h.need(!h.cfg.Ephemeral, "its groups end with their last subscription")
	topic, group := h.name("topic"), h.name("group")
	h.closeSub(h.join(h.tr, topic, group))
	m := h.later()
	h.publish(h.tr, topic, m)
	pause(time.Until(m.NotBefore) + h.cfg.Clock)
	sub := h.join(h.tr, topic, group)
	h.ack(sub, h.due(sub, m))
}

func checkDelayResubscribe(h *harness) {
	h.need(h.caps.Delay, "it cannot delay")
	h.need(!h.cfg.Ephemeral, "its groups end with their last subscription")
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.later()
	h.publish(h.tr, topic, m)
	h.closeSub(sub)
	if h.caps.Durable {
		h.closeTransport(h.tr)
		h.tr = h.open()
	}
	sub = h.join(h.tr, topic, group)
	h.ack(sub, h.due(sub, m))
	h.quiet(sub, "it has come")
}

func checkDelayRequeue(h *harness) {
	h.need(h.caps.Delay, "it cannot delay")
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.later()
	h.publish(h.tr, topic, m)
	h.settle(sub, transport.Requeue, h.due(sub, m))
	d := h.expect(sub, m)[0]
	h.attempt(d, 2)
	h.ack(sub, d)
}

func checkTarget(h *harness) {
	h.need(h.caps.Target, "it cannot aim at a group")
	topic, group := h.name("topic"), h.name("group")
	sub, other := h.join(h.tr, topic, group), h.join(h.tr, topic, h.name("group"))
	msgs := h.messages(3, "")
	msgs[1].TargetGroup = group
	h.publish(h.tr, topic, msgs...)
	for i, d := range h.drain(sub, msgs...) {
		h.same(d, msgs[i])
	}
	h.drain(other, msgs[0], msgs[2])
	h.quiet(other, "#2 was for the other group")
	nobody := h.messages(1, "")
	nobody[0].TargetGroup = h.name("nobody")
	h.publish(h.tr, topic, nobody...)
	h.quiet(sub, "the message was for a group that is not there")
}

func checkTargetOrder(h *harness) {
	h.need(h.caps.Target, "it cannot aim at a group")
	h.needOrder()
	topic, group := h.name("topic"), h.name("group")
	sub, other := h.join(h.tr, topic, group), h.join(h.tr, topic, h.name("group"))
	msgs := h.messages(6, "k")
	msgs[1].TargetGroup, msgs[4].TargetGroup = group, group
	h.publish(h.tr, topic, msgs...)
	h.drain(sub, msgs...)
	h.drain(other, msgs[0], msgs[2], msgs[3], msgs[5])
}

func checkTargetLater(h *harness) {
	h.need(h.caps.Target && h.caps.Delay, "it cannot both delay and aim at a group")
	topic, group := h.name("topic"), h.name("group")
	sub, other := h.join(h.tr, topic, group), h.join(h.tr, topic, h.name("group"))
	m := h.later()
	m.TargetGroup, m.Attempts = group, 2 // as a delayed retry
	h.publish(h.tr, topic, m)
	d := h.receive(sub, 1)[0]
	h.notEarly(m)
	h.same(d, m)
	h.attempt(d, 3)
	h.ack(sub, d)
	h.quiet(other, "it was for the other group")
}
