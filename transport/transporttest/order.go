package transporttest

import (
	"fmt"

	"github.com/postbus/postbus/transport"
)

var orderChecks = []check{
	{"order/batch", "the order within a batch is kept as Capabilities.Order says.", checkOrderBatch},
	{"order/batches", "messages that are published one after the other arrive in that order, as Capabilities.Order says.", checkOrderBatches},
	{"order/requeue", "the place of a requeued message in the order is the one it had: it comes before later ones.", func(h *harness) { checkOrderBack(h, transport.Requeue) }},
	{"order/release", "the place of a released message in the order is the one it had: it comes before later ones.", func(h *harness) { checkOrderBack(h, transport.Release) }},
	{"order/several requeued", "requeued messages come again in their own order, whatever the order in which they were requeued.", checkOrderSeveral},
	{"order/requeued again", "a message that is requeued again and again keeps its place in the order.", checkOrderAgain},
	{"order/close", "what a closed subscription gives back keeps its place in the order.", checkOrderClose},
	{"order/takeover", "when one subscription of a group closes, its messages come to the other before later ones.", checkOrderTakeover},
}

func (h *harness) needOrder() {
	h.Helper()
	h.need(h.caps.Order != transport.OrderNone, "it keeps no order")
}

// keyed makes n messages whose keys take turns.
func (h *harness) keyed(n, keys int) []transport.Message {
	msgs := h.messages(n, "")
	for i := range msgs {
		msgs[i].Key = fmt.Sprint("key ", i%keys)
	}
	return msgs
}

func checkOrderBatch(h *harness) {
	h.needOrder()
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.keyed(90, 7)
	h.publish(h.tr, topic, msgs...)
	h.drain(sub, msgs...)
}

func checkOrderBatches(h *harness) {
	h.needOrder()
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.keyed(60, 4)
	for i, step := 0, 1; i < len(msgs); i, step = i+step, step+1 {
		h.publish(h.tr, topic, msgs[i:min(i+step, len(msgs))]...)
	}
	h.drain(sub, msgs...)
}

// five subscribes a new group and has five of ten messages of one key in flight.
func (h *harness) five() (topic, group string, sub transport.Subscription, msgs []transport.Message, ds []transport.Delivery) {
	h.Helper()
	h.needOrder()
	h.needInFlight(5)
	topic, group = h.name("topic"), h.name("group")
	sub = h.subscribe(h.tr, transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: 7})
	msgs = h.messages(10, "k")
	h.publish(h.tr, topic, msgs...)
	return topic, group, sub, msgs, h.expect(sub, msgs[:5]...)
}

func checkOrderBack(h *harness, outcome transport.Outcome) {
	_, _, sub, msgs, ds := h.five()
	h.ack(sub, ds[0])
	h.settle(sub, outcome, ds[1])
	// #3, #4 and #5 are still in flight: #2 comes before #6.
	again := h.expect(sub, msgs[1], msgs[5])
	h.ack(sub, ds[2:]...)
	h.ack(sub, again...)
	h.drain(sub, msgs[6:]...)
}

func checkOrderSeveral(h *harness) {
	_, _, sub, msgs, ds := h.five()
	h.settle(sub, transport.Requeue, ds[3])
	h.settle(sub, transport.Requeue, ds[4], ds[1])
	h.settle(sub, transport.Requeue, ds[2])
	again := h.expect(sub, msgs[1:6]...)
	h.settle(sub, transport.Requeue, again[4], again[0], again[3], again[1], again[2])
	again = h.expect(sub, msgs[1:6]...)
	h.ack(sub, again...)
	h.ack(sub, ds[0])
	h.drain(sub, msgs[6:]...)
}

func checkOrderAgain(h *harness) {
	_, _, sub, msgs, ds := h.five()
	h.ack(sub, ds[0])
	d := ds[1]
	for range 4 {
		h.settle(sub, transport.Requeue, d)
		d = h.expect(sub, msgs[1])[0]
	}
	h.ack(sub, d)
	h.ack(sub, ds[2:]...)
	h.drain(sub, msgs[5:]...)
}

func checkOrderClose(h *harness) {
	h.need(!h.cfg.Ephemeral, "what is unsettled ends with the last subscription")
	topic, group, sub, msgs, ds := h.five()
	h.ack(sub, ds[0], ds[2])
	h.closeSub(sub)
	sub = h.join(h.tr, topic, group)
	h.drain(sub, append([]transport.Message{msgs[1], msgs[3], msgs[4]}, msgs[5:]...)...)
}

func checkOrderTakeover(h *harness) {
	topic, group, sub, msgs, ds := h.five()
	h.ack(sub, ds[0], ds[3])
	h.settle(sub, transport.Requeue, ds[2], ds[4])
	next := h.join(h.tr, topic, group)
	h.closeSub(sub)
	h.drain(next, append([]transport.Message{msgs[1], msgs[2], msgs[4]}, msgs[5:]...)...)
}
