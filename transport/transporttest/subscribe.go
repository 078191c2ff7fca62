package transporttest

import (
	"context"
	"errors"
	"time"

	"github.com/postbus/postbus/transport"
)

var subscribeChecks = []check{
	{"subscribe/invalid", "Subscribe refuses what SubscribeConfig.Check refuses, with its ErrInvalid.", checkInvalidConfig},
	{"subscribe/from its return on", "from the return of Subscribe on, the group gets every message that is published to the topic.", checkFromReturn},
	{"subscribe/context", "the context of Subscribe bounds the call only, not the life of the subscription.", checkSubscribeContext},
	{"subscribe/closed", "once the transport is closed, Subscribe returns ErrClosed.", checkSubscribeClosed},
	{"subscribe/groups", "each group gets every message of a topic once.", checkGroups},
	{"subscribe/shared group", "subscriptions of one group share its messages: each comes to one of them.", checkSharedGroup},
	{"subscribe/outlives", "the group, and what is published to it meanwhile, outlives the subscription.", checkOutlives},
	{"subscribe/prefetch", "no more than Prefetch deliveries are unsettled at once.", checkPrefetch},
	{"subscribe/default prefetch", "Prefetch is 256 by default.", checkDefaultPrefetch},
	{"subscribe/no replay", "a transport without Capabilities.Replay keeps nothing for groups to come.", checkNoReplay},
	{"subscribe/start beginning", "a new group begins at the oldest message that is kept, by default.", checkStartBeginning},
	{"subscribe/start now", "StartNow begins with the first message that is published after the group joined.", checkStartNow},
	{"subscribe/start at", "StartAt begins with the first message that was published at that time or later.", checkStartAt},
	{"subscribe/start known", "Start is for groups that the transport has not seen before; a known one goes on where it was.", checkStartKnown},
}

func checkInvalidConfig(h *harness) {
	configs := []transport.SubscribeConfig{{Topic: "t", Group: "g", Prefetch: -1}}
	for _, name := range invalidNames {
		configs = append(configs, transport.SubscribeConfig{Topic: name, Group: "g"}, transport.SubscribeConfig{Topic: "t", Group: name})
	}
	for _, cfg := range configs {
		err := h.do("Subscribe", h.cfg.Timeout, func(ctx context.Context) error {
			sub, err := h.tr.Subscribe(ctx, cfg)
			if err == nil {
				_ = sub.Close()
			}
			return err
		})
		if !errors.Is(err, transport.ErrInvalid) {
			h.broken("Subscribe to topic %.20q for group %.20q with prefetch %d returned %v", cfg.Topic, cfg.Group, cfg.Prefetch, err)
		}
	}
}

func checkFromReturn(h *harness) {
	for range 5 {
		topic, group := h.name("topic"), h.name("group")
		sub := h.join(h.tr, topic, group)
		m := h.messages(1, "")
		h.publish(h.tr, topic, m...)
		h.ack(sub, h.expect(sub, m...)...)
	}
}

func checkSubscribeContext(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group) // its context has ended by now
	m := h.messages(1, "")
	h.publish(h.tr, topic, m...)
	h.ack(sub, h.expect(sub, m...)...)
	h.quiet(sub, "all has come")
}

func checkSubscribeClosed(h *harness) {
	h.closeTransport(h.tr)
	err := h.do("Subscribe", h.cfg.Timeout, func(ctx context.Context) error {
		_, err := h.tr.Subscribe(ctx, transport.SubscribeConfig{Topic: "t", Group: "g"})
		return err
	})
	if !errors.Is(err, transport.ErrClosed) {
		h.broken("Subscribe on a closed transport returned %v", err)
	}
}

func checkGroups(h *harness) {
	topic := h.name("topic")
	var subs []transport.Subscription
	for range 3 {
		subs = append(subs, h.join(h.tr, topic, h.name("group")))
	}
	msgs := h.messages(5, "k")
	h.publish(h.tr, topic, msgs[:3]...)
	h.publish(h.tr, topic, msgs[3:]...)
	for _, sub := range subs {
		h.drain(sub, msgs...)
		h.quiet(sub, "each message has come to this group once")
	}
}

func checkSharedGroup(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	first, second := h.join(h.tr, topic, group), h.join(h.tr, topic, group)
	msgs := h.messages(40, "")
	for i := range msgs {
		msgs[i].Key = msgs[i%7].ID
	}
	h.publish(h.tr, topic, msgs...)
	// Both receive, side by side, until all has come; a transport may let one wait for the other.
	acked, stop := h.consumers(ackAll, first, second)
	h.collect(acked, msgs)
	stop()
	h.quiet(first, "each message has come to one of the group's subscriptions")
	h.closeSub(first)
	h.quiet(second, "each message has come to one of the group's subscriptions")
}

func checkOutlives(h *harness) {
	h.need(!h.cfg.Ephemeral, "its groups end with their last subscription")
	topic, group := h.name("topic"), h.name("group")
	h.closeSub(h.join(h.tr, topic, group))
	msgs := h.messages(3, "k")
	h.publish(h.tr, topic, msgs...)
	sub := h.join(h.tr, topic, group)
	h.drain(sub, msgs...)
	h.quiet(sub, "all has come")
}

func checkPrefetch(h *harness) {
	h.needInFlight(3)
	topic, group := h.name("topic"), h.name("group")
	sub := h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: 3})
	msgs := h.messages(8, "k")
	h.publish(h.tr, topic, msgs...)
	got := h.receive(sub, 3)
	h.quiet(sub, "Prefetch is 3, and 3 deliveries are unsettled")
	h.ack(sub, got[1])
	got = append(got, h.receive(sub, 1)...)
	h.quiet(sub, "Prefetch is 3, and 3 deliveries are unsettled, after 4 of which one was settled")
	h.ack(sub, got[0], got[2], got[3])
	for len(got) < len(msgs) {
		ds := h.receive(sub, 1)
		h.ack(sub, ds...)
		got = append(got, ds...)
	}
	h.compare(got, msgs)
}

func checkDefaultPrefetch(h *harness) {
	h.needInFlight(transport.DefaultPrefetch)
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(transport.DefaultPrefetch+10, "k")
	h.publish(h.tr, topic, msgs...)
	got := h.receive(sub, transport.DefaultPrefetch)
	h.quiet(sub, "256 deliveries are unsettled")
	h.ack(sub, got...)
	h.compare(append(got, h.receive(sub, 10)...), msgs)
}

func checkNoReplay(h *harness) {
	h.need(!h.caps.Replay, "it keeps messages")
	topic := h.name("topic")
	h.join(h.tr, topic, h.name("group"))
	h.publish(h.tr, topic, h.messages(1, "")...)
	late := h.join(h.tr, topic, h.name("group"))
	m := h.messages(1, "")
	h.publish(h.tr, topic, m...)
	h.ack(late, h.expect(late, m...)...)
	h.quiet(late, "the message was published before the group joined")
}

func checkStartBeginning(h *harness) {
	h.need(h.caps.Replay, "it keeps no messages for groups to come")
	topic := h.name("topic")
	msgs := h.messages(5, "k")
	h.publish(h.tr, topic, msgs[:2]...)
	first := h.join(h.tr, topic, h.name("group"))
	h.drain(first, msgs[:2]...)
	h.publish(h.tr, topic, msgs[2:]...)
	second := h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: h.name("group"), Start: transport.StartBeginning()})
	h.drain(second, msgs...)
	h.drain(first, msgs[2:]...)
}

func checkStartNow(h *harness) {
	h.need(h.caps.Replay, "it keeps no messages for groups to come")
	topic := h.name("topic")
	msgs := h.messages(4, "k")
	h.publish(h.tr, topic, msgs[:2]...)
	sub := h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: h.name("group"), Start: transport.StartNow()})
	h.publish(h.tr, topic, msgs[2:]...)
	h.drain(sub, msgs[2:]...)
	h.quiet(sub, "the others were published before the group joined")
}

func checkStartAt(h *harness) {
	h.need(h.caps.Replay, "it keeps no messages for groups to come")
	topic := h.name("topic")
	msgs := h.messages(4, "k")
	h.publish(h.tr, topic, msgs[:2]...)
	pause(2 * h.cfg.Clock)
	at := time.Now()
	pause(2 * h.cfg.Clock)
	h.publish(h.tr, topic, msgs[2:]...)
	at = at.In(time.FixedZone("", -11*60*60)) // an instant, whatever its zone
	sub := h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: h.name("group"), Start: transport.StartAt(at)})
	h.drain(sub, msgs[2:]...)
	h.quiet(sub, "the others were published before the time of StartAt")
}

func checkStartKnown(h *harness) {
	h.need(h.caps.Replay, "it keeps no messages for groups to come")
	topic, group := h.name("topic"), h.name("group")
	msgs := h.messages(4, "k")
	h.publish(h.tr, topic, msgs...)
	sub := h.join(h.tr, topic, group)
	h.ack(sub, h.receive(sub, 1)...)
	h.closeSub(sub)
	sub = h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: group, Start: transport.StartNow()})
	h.ack(sub, h.receive(sub, 1)...)
	h.closeSub(sub)
	sub = h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: group, Start: transport.StartBeginning()})
	ds := h.receive(sub, 2)
	h.ack(sub, ds...)
	h.quiet(sub, "the group had handled the others before")
	h.closeSub(sub)
	sub = h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: group, Start: transport.StartAt(time.Unix(1, 0))})
	h.quiet(sub, "the group had handled all before")
}
