package transporttest

import (
	"fmt"
	"strings"
	"time"

	"github.com/postbus/postbus/transport"
)

var messageChecks = []check{
	{"message/all fields", "a driver maps every field of the envelope; times are kept to the microsecond.", checkAllFields},
	{"message/only ID", "all fields but the ID may be empty, and stay so; Metadata is nil when there is none.", checkOnlyID},
	{"message/version", "a Version of 0 means 1, others are kept.", checkVersion},
	{"message/foreign ID", "a foreign publisher may have chosen any text as ID.", checkForeignID},
	{"message/texts", "a text may be any UTF-8 without NUL.", checkTexts},
	{"message/metadata", "metadata cannot overwrite the fields of the envelope, or be taken for them.", checkMetadata},
	{"message/payload", "the bytes of the payload are kept, whatever they are.", checkPayload},
	{"message/large payload", "a payload of 1 MiB, or of Capabilities.MaxPayload if that is less, is carried.", checkLargePayload},
	{"message/time", "Time is an instant: it is kept in whatever zone it was given.", checkTime},
	{"message/attempts", "Delivery.Attempt includes Message.Attempts.", checkAttempts},
	{"message/value", "a transport with Capabilities.Values carries Message.Value, and Payload need not be set; others ignore it.", checkValue},
}

// roundTrip publishes msgs and compares what comes with them.
func roundTrip(h *harness, msgs ...transport.Message) []transport.Delivery {
	h.Helper()
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	h.publish(h.tr, topic, msgs...)
	ds := h.drain(sub, msgs...)
	for i, d := range ds {
		h.same(d, msgs[i])
	}
	return ds
}

func fullMessage(h *harness) transport.Message {
	m := h.messages(1, "customer 7")[0]
	m.Version = 3
	m.Time = m.Time.Add(-123457 * time.Microsecond)
	m.CorrelationID, m.CausationID = newID(), newID()
	m.ContentType = "application/json; charset=utf-8"
	m.Attempts = 2
	m.Metadata = map[string]string{
		"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate": "a=1,b=2", "empty": "",
	}
	return m
}

func checkAllFields(h *harness) {
	m := fullMessage(h)
	if h.caps.Target {
		m.TargetGroup = h.name("group")
	}
	if h.caps.Delay {
		m.NotBefore = now().Add(-time.Hour)
	}
	topic, group := h.name("topic"), h.name("group")
	if m.TargetGroup != "" {
		group = m.TargetGroup
	}
	sub := h.join(h.tr, topic, group)
	h.publish(h.tr, topic, m)
	h.same(h.expect(sub, m)[0], m)
}

func checkOnlyID(h *harness) {
	empty := h.messages(3, "")
	for i := range empty {
		empty[i] = transport.Message{ID: empty[i].ID}
	}
	empty[1].Metadata, empty[1].Payload = map[string]string{}, []byte{}
	roundTrip(h, empty...)
}

func checkVersion(h *harness) {
	msgs := h.messages(4, "k")
	for i, version := range []int{0, 1, 2, 1 << 30} {
		msgs[i].Version = version
	}
	roundTrip(h, msgs...)
}

func checkForeignID(h *harness) {
	base := newID()
	var msgs []transport.Message
	for _, id := range []string{
		"x-" + base, "X-" + base, strings.ToUpper(base), base, "{" + base + "}", base + " ", " " + base, base + "\n",
		base + "'; drop table messages; --", "größe 📦 " + base, base + strings.Repeat("0123456789", 30), base + "/a/../b",
	} {
		m := h.messages(1, "k")[0]
		m.ID = id
		msgs = append(msgs, m)
	}
	roundTrip(h, msgs...)
}

// texts are awkward for one or the other way to store a text.
var texts = []string{
	" spaces around ", "line\nbreak\r\n\ttab", `quotes ' " ` + "`", `back\slash \n \u0000`, "größe ΑΒΓ 漢字 📦", "e\u0301 and é",
	"'; drop table messages; --", "$1 ? :name %s %", "{}[]<>&;", "\u2028\ufeff\ufffd", "null", "0", strings.Repeat("long ", 200),
}

func checkTexts(h *harness) {
	var msgs []transport.Message
	for i, text := range texts {
		m := h.messages(1, text)[0]
		m.Name, m.CorrelationID, m.CausationID, m.ContentType = text, text, text, text
		m.Metadata = map[string]string{fmt.Sprint("key ", i): text}
		if len(text) < 100 { // headers of AMQP have keys of up to 255 bytes
			m.Metadata[text] = text
		}
		msgs = append(msgs, m)
	}
	roundTrip(h, msgs...)
}

func checkMetadata(h *harness) {
	spoof := map[string]string{}
	for _, k := range []string{
		"id", "uuid", "name", "event_name", "version", "key", "time", "attempts", "correlation_id", "causation_id",
		"content_type", "Content-Type", "content-type", "target_group", "not_before", "delay", "x-delay", "x-death",
		"x-delivery-count", "x-acquired-count", "message_id", "metadata", "payload", "_watermill_message_uuid",
		"_watermill_delayed_until", "_watermill_delayed_for", "postbus_id", "postbus_name", "postbus_version",
		"postbus_key", "postbus_time", "postbus_attempts", "postbus_correlation_id", "postbus_causation_id",
		"postbus_content_type", "postbus_target_group", "postbus_not_before", "postbus_meta_name",
		"postbus_meta_postbus_key", "postbus_meta_postbus_meta_key",
	} {
		spoof[k] = "7"
	}
	bare, full := h.messages(1, "")[0], fullMessage(h)
	bare = transport.Message{ID: bare.ID, Metadata: spoof}
	full.Metadata = spoof
	for _, d := range roundTrip(h, bare, full) {
		h.attempt(d, d.Attempts+1)
	}
	later := h.messages(1, "")
	later[0].Metadata = map[string]string{}
	for _, k := range []string{"postbus_not_before", "postbus_time", "not_before", "_watermill_delayed_until"} {
		later[0].Metadata[k] = "2999-01-01T00:00:00Z"
	}
	roundTrip(h, later...)
}

func checkPayload(h *harness) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	msgs := h.messages(5, "k")
	for i, payload := range [][]byte{every, {0}, []byte("not json"), []byte(`{"b":1,  "a":1.0}` + "\n"), []byte("\xff\xfe")} {
		msgs[i].Payload, msgs[i].ContentType = payload, "application/octet-stream"
	}
	roundTrip(h, msgs...)
}

func checkLargePayload(h *harness) {
	size := 1 << 20
	if h.caps.MaxPayload > 0 {
		size = min(size, h.caps.MaxPayload)
	}
	msgs := h.messages(2, "k")
	msgs[0].Payload = fmt.Appendf(nil, "%q", strings.Repeat("x", size-2))
	roundTrip(h, msgs...)
}

func checkTime(h *harness) {
	msgs := h.messages(4, "k")
	msgs[0].Time = now().In(time.FixedZone("", 5*60*60+45*60))
	msgs[1].Time = time.Date(1999, 12, 31, 23, 59, 59, 999999000, time.UTC)
	msgs[2].Time = time.Date(2300, 1, 1, 0, 0, 0, 1000, time.UTC)
	msgs[3].Time = time.Unix(0, 0)
	roundTrip(h, msgs...)
}

func checkAttempts(h *harness) {
	msgs := h.messages(2, "k")
	msgs[1].Attempts = 4
	for _, d := range roundTrip(h, msgs...) {
		if d.Attempt != d.Attempts+1 {
			h.broken("a message with Attempts %d was delivered first with Attempt %d", d.Attempts, d.Attempt)
		}
	}
}

func checkValue(h *harness) {
	type event struct{ N int }
	m := h.messages(1, "")[0]
	m.Value = &event{N: 7}
	if h.caps.Values {
		m.Payload = nil
	}
	d := roundTrip(h, m)[0]
	if h.caps.Values && d.Value != m.Value {
		h.broken("Value came as %v, want the pointer that was published", d.Value)
	}
}
