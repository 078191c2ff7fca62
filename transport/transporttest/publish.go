package transporttest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/postbus/postbus/transport"
)

var publishChecks = []check{
	{"publish/capabilities", "Capabilities does no I/O and its answer does not change.", checkCapabilities},
	{"publish/empty batch", "Publish of an empty batch is no error, and publishes nothing.", checkEmptyBatch},
	{"publish/no group", "a topic without groups takes messages.", checkNoGroup},
	{"publish/invalid message", "Publish refuses a message that Message.Check refuses, with its ErrInvalid.", checkInvalidMessage},
	{"publish/invalid topic", "Publish refuses a topic that CheckName refuses, with its ErrInvalid.", checkInvalidTopic},
	{"publish/partial", "if only some messages failed, the error is a *PublishError with an entry for each message of the batch; the others are published.", checkPartial},
	{"publish/too large", "a payload of more than Capabilities.MaxPayload bytes fails with ErrTooLarge, one of as many does not.", checkTooLarge},
	{"publish/unsupported", "without Capabilities.Delay a message with NotBefore fails with ErrUnsupported, without Capabilities.Target one with TargetGroup does.", checkUnsupported},
	{"publish/changes nothing", "a message that was handed to Publish is not changed.", checkChangesNothing},
	{"publish/context", "Publish returns nil only when the messages are safe; when ctx ends it returns.", checkPublishContext},
	{"publish/back-pressure", "Publish that waits for room returns when ctx ends, and has published nothing then.", checkBackPressure},
	{"publish/closed", "once the transport is closed, Publish returns ErrClosed.", checkPublishClosed},
}

func checkCapabilities(h *harness) {
	if again := h.tr.Capabilities(); again != h.caps {
		h.broken("Capabilities were %+v, then %+v", h.caps, again)
	}
	if h.caps.Order > transport.OrderPerTopic {
		h.broken("Capabilities.Order is %v", h.caps.Order)
	}
	if h.caps.MaxPayload < 0 {
		h.broken("Capabilities.MaxPayload is %d", h.caps.MaxPayload)
	}
	h.closeTransport(h.tr)
	if after := h.tr.Capabilities(); after != h.caps {
		h.broken("Capabilities were %+v, and after Close %+v", h.caps, after)
	}
}

func checkEmptyBatch(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	h.publish(h.tr, topic)
	h.must("Publish", func(ctx context.Context) error { return h.tr.Publish(ctx, topic, []transport.Message{}) })
	h.quiet(sub, "only empty batches were published")
}

func checkNoGroup(h *harness) {
	topic := h.name("topic")
	h.publish(h.tr, topic, h.messages(3, "")...)
	h.publish(h.tr, topic, h.messages(1, "k")...)
}

// invalid are messages that no transport takes.
var invalid = map[string]func(m *transport.Message){
	"no ID":              func(m *transport.Message) { m.ID = "" },
	"ID not UTF-8":       func(m *transport.Message) { m.ID = "\xff" },
	"Name with NUL":      func(m *transport.Message) { m.Name = "a\x00b" },
	"Key not UTF-8":      func(m *transport.Message) { m.Key = "a\xc3" },
	"negative Version":   func(m *transport.Message) { m.Version = -1 },
	"negative Attempts":  func(m *transport.Message) { m.Attempts = -1 },
	"CorrelationID":      func(m *transport.Message) { m.CorrelationID = "\x00" },
	"CausationID":        func(m *transport.Message) { m.CausationID = "\x00" },
	"ContentType":        func(m *transport.Message) { m.ContentType = "\xff" },
	"empty metadata key": func(m *transport.Message) { m.Metadata = map[string]string{"": "x"} },
	"metadata key":       func(m *transport.Message) { m.Metadata = map[string]string{"a\x00": "x"} },
	"metadata value":     func(m *transport.Message) { m.Metadata = map[string]string{"a": "\xff"} },
}

func checkInvalidMessage(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	for what, spoil := range invalid {
		bad := h.messages(1, "")
		spoil(&bad[0])
		if err := h.tryPublish(h.tr, topic, bad); !errors.Is(err, transport.ErrInvalid) {
			h.broken("Publish of a message (%s) returned %v", what, err)
		}
	}
	h.quiet(sub, "all messages were refused")
}

// tryPublish publishes what may fail.
func (h *harness) tryPublish(tr transport.Transport, topic string, msgs []transport.Message) error {
	h.Helper()
	return h.do("Publish", h.cfg.Timeout, func(ctx context.Context) error { return tr.Publish(ctx, topic, msgs) })
}

// invalidNames are what CheckName refuses.
var invalidNames = []string{"", " a", "a ", "a\x00b", "a\nb", "a\xff", strings.Repeat("a", transport.MaxNameLength+1)}

func checkInvalidTopic(h *harness) {
	for _, topic := range invalidNames {
		if err := h.tryPublish(h.tr, topic, h.messages(1, "")); !errors.Is(err, transport.ErrInvalid) {
			h.broken("Publish to topic %.20q returned %v", topic, err)
		}
	}
}

func checkPartial(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(4, "k")
	msgs[1].ID, msgs[2].Key = "", "\xff"
	err := h.tryPublish(h.tr, topic, msgs)
	partial, ok := errors.AsType[*transport.PublishError](err)
	if !ok {
		h.broken("Publish of a batch, of which the second and third message are invalid, returned %T: %v", err, err)
	}
	if len(partial.Errs) != len(msgs) {
		h.broken("PublishError.Errs has %d entries for %d messages: %v", len(partial.Errs), len(msgs), partial.Errs)
	}
	for i, err := range partial.Errs {
		if bad := i == 1 || i == 2; bad != errors.Is(err, transport.ErrInvalid) || !bad && err != nil {
			h.broken("PublishError.Errs[%d] is %v; the messages 1 and 2 were invalid, the others not", i, err)
		}
	}
	h.drain(sub, msgs[0], msgs[3])
	h.quiet(sub, "all good messages have come")
}

func checkTooLarge(h *harness) {
	limit := h.caps.MaxPayload
	h.need(limit > 0, "it has no limit")
	h.need(limit <= 64<<20, "its limit of %d bytes is too much for a test", limit)
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.messages(2, "")
	msgs[0].Payload = fmt.Appendf(nil, "%q", strings.Repeat("x", limit-1))
	msgs[1].Payload = fmt.Appendf(nil, "%q", strings.Repeat("x", limit-2))
	if err := h.tryPublish(h.tr, topic, msgs[:1]); !errors.Is(err, transport.ErrTooLarge) {
		h.broken("Publish of %d bytes returned %v; MaxPayload is %d", limit+1, err, limit)
	}
	h.publish(h.tr, topic, msgs[1])
	d := h.expect(sub, msgs[1])[0]
	h.same(d, msgs[1])
}

func checkUnsupported(h *harness) {
	h.need(!h.caps.Delay || !h.caps.Target, "it supports all")
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	later, aimed := h.messages(1, ""), h.messages(1, "")
	later[0].NotBefore, aimed[0].TargetGroup = time.Now().Add(h.cfg.Delay), group
	if err := h.tryPublish(h.tr, topic, later); !h.caps.Delay && !errors.Is(err, transport.ErrUnsupported) {
		h.broken("Publish of a message for later returned %v", err)
	}
	if err := h.tryPublish(h.tr, topic, aimed); !h.caps.Target && !errors.Is(err, transport.ErrUnsupported) {
		h.broken("Publish of a message for one group returned %v", err)
	}
	if !h.caps.Delay && !h.caps.Target {
		h.quiet(sub, "both messages were refused")
	}
}

func checkChangesNothing(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	before := fullMessage(h)
	handed := before
	handed.Metadata, handed.Payload = maps.Clone(before.Metadata), slices.Clone(before.Payload)
	h.publish(h.tr, topic, handed)
	h.settle(sub, transport.Requeue, h.expect(sub, before)...)
	h.ack(sub, h.expect(sub, before)...)
	if diff := difference(handed, before); diff != "" {
		h.broken("after its delivery, the message in the publisher's hands has changed: %s", diff)
	}
}

func checkPublishContext(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	m := h.messages(1, "")
	ended, cancel := context.WithCancel(h.Context())
	cancel()
	err := h.do("Publish", 0, func(context.Context) error { return h.tr.Publish(ended, topic, m) })
	switch {
	case err == nil:
		h.ack(sub, h.expect(sub, m...)...)
	case errors.Is(err, context.Canceled) && errors.Is(err, transport.ErrOutcomeUnknown): // it may come, or not
	case errors.Is(err, context.Canceled):
		h.quiet(sub, "Publish returned the error of its context, and not that the outcome is unknown")
	default:
		h.broken("Publish with a context that has ended returned neither nil nor its error: %v", err)
	}
}

// checkBackPressure publishes much that nobody receives. A transport may take it all.
func checkBackPressure(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	var taken []transport.Message
	unknown := false
	for range 12 {
		msgs := h.messages(150, "k")
		err := h.do("Publish", 10*h.cfg.Quiet, func(ctx context.Context) error { return h.tr.Publish(ctx, topic, msgs) })
		if err == nil {
			taken = append(taken, msgs...)
			continue
		}
		if !errors.Is(err, context.DeadlineExceeded) {
			h.broken("Publish with a context that ended while it waited returned %v", err)
		}
		unknown = errors.Is(err, transport.ErrOutcomeUnknown)
		break
	}
	h.drain(sub, taken...)
	if !unknown {
		h.quiet(sub, fmt.Sprintf("the %d messages that were published have come", len(taken)))
	}
}

func checkPublishClosed(h *harness) {
	h.closeTransport(h.tr)
	if err := h.tryPublish(h.tr, h.name("topic"), h.messages(1, "")); !errors.Is(err, transport.ErrClosed) {
		h.broken("Publish on a closed transport returned %v", err)
	}
}
