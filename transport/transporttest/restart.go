package transporttest

import (
	"github.com/postbus/postbus/transport"
)

var restartChecks = []check{
	{"restart/messages", "with Capabilities.Durable, a message whose Publish returned nil survives the process; so does the group.", checkRestartMessages},
	{"restart/attempts", "with Capabilities.Durable, attempts are counted across restarts.", checkRestartAttempts},
	{"restart/crash", "with Capabilities.Durable, a message whose handling kills the process is known by its count.", checkCrash},
	{"restart/order", "the order is kept across a restart, also of what was given back.", checkRestartOrder},
	{"restart/processes", "transports on the same data share groups, as instances of one program do.", checkProcesses},
	{"restart/to the other", "Close of a transport gives back what is unsettled to the group's subscriptions in other processes.", checkCloseToOther},
}

func (h *harness) needDurable() {
	h.Helper()
	h.need(h.caps.Durable, "it is not durable")
}

// restart closes the transport and opens another on the same data.
func (h *harness) restart() {
	h.Helper()
	h.closeTransport(h.tr)
	h.tr = h.open()
}

func checkRestartMessages(h *harness) {
	h.needDurable()
	topic, group := h.name("topic"), h.name("group")
	h.join(h.tr, topic, group)
	msgs := h.messages(6, "k")
	msgs[0] = fullMessage(h)
	msgs[0].Key = "k"
	h.publish(h.tr, topic, msgs[:3]...)
	h.restart()
	h.publish(h.tr, topic, msgs[3:]...) // while nobody subscribes
	h.restart()
	sub := h.join(h.tr, topic, group)
	for i, d := range h.drain(sub, msgs...) {
		h.same(d, msgs[i])
	}
	h.restart()
	h.quiet(h.join(h.tr, topic, group), "all was acknowledged before the restart")
}

func checkRestartAttempts(h *harness) {
	h.needDurable()
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.messages(1, "k")[0]
	m.Attempts = 1
	h.publish(h.tr, topic, m)
	for attempt := 2; attempt < 5; attempt++ {
		d := h.expect(sub, m)[0]
		h.attempt(d, attempt)
		h.settle(sub, transport.Requeue, d)
		h.restart()
		sub = h.join(h.tr, topic, group)
	}
	d := h.expect(sub, m)[0]
	h.attempt(d, 5)
	h.restart() // gives it back as released
	sub = h.join(h.tr, topic, group)
	d = h.expect(sub, m)[0]
	h.attemptReleased(d, 5)
	h.ack(sub, d)
}

func checkCrash(h *harness) {
	h.needDurable()
	h.need(h.cfg.Crash != nil, "Config.Crash is nil")
	topic, group := h.name("topic"), h.name("group")
	m := h.messages(1, "k")[0]
	h.join(h.tr, topic, group)
	h.publish(h.tr, topic, m)
	for attempt := 1; attempt <= 3; attempt++ {
		tr := h.open()
		sub := h.join(tr, topic, group)
		if attempt == 1 {
			h.closeTransport(h.tr) // its subscription would be given the message
		}
		d := h.expect(sub, m)[0]
		h.attempt(d, attempt)
		if attempt == 3 {
			h.ack(sub, d)
			return
		}
		h.cfg.Crash(h.TB, tr)
	}
}

func checkRestartOrder(h *harness) {
	h.needDurable()
	topic, group, sub, msgs, ds := h.five()
	h.ack(sub, ds[0], ds[2])
	h.settle(sub, transport.Requeue, ds[3])
	h.restart()
	sub = h.join(h.tr, topic, group)
	h.drain(sub, append([]transport.Message{msgs[1], msgs[3], msgs[4]}, msgs[5:]...)...)
}

func checkProcesses(h *harness) {
	h.needDurable()
	topic, group := h.name("topic"), h.name("group")
	other := h.open()
	acked, stop := h.consumers(ackAll, h.join(h.tr, topic, group), h.join(other, topic, group))
	msgs := h.messages(40, "")
	h.publish(h.tr, topic, msgs[:20]...)
	h.publish(other, topic, msgs[20:]...)
	h.collect(acked, msgs)
	stop()
	h.closeTransport(other)
	h.quiet(h.join(h.tr, topic, group), "all was acknowledged, by either process")
}

func checkCloseToOther(h *harness) {
	h.needDurable()
	topic, group, _, msgs, _ := h.three()
	other := h.open()
	acked, stop := h.consumers(ackAll, h.join(other, topic, group))
	pause(h.cfg.Quiet) // so that it waits
	h.closeTransport(h.tr)
	h.collect(acked, msgs)
	stop()
}
