package transport

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Message is the envelope that travels. A driver maps its fields to its own headers or columns.
//
// Messages are passed by value. The bytes of Payload and the map Metadata are shared with the copies: whoever has
// handed a message to Publish must not change them afterwards; whoever received one owns it and may.
type Message struct {
	// ID identifies the message, also across redeliveries and transports. The bus assigns UUIDv7 (RFC 9562); a
	// foreign publisher may have chosen any other text. Required.
	ID string
	// Name is the wire name of the event, such as "orders.placed". Empty on messages of foreign publishers.
	Name string
	// Version is the schema version of the event; 0 means 1.
	Version int
	// Key orders: messages of one topic with the same non-empty key are handled in order.
	Key string
	// Time is when the message was published first; the zero time if a foreign publisher did not say.
	Time time.Time
	// CorrelationID is shared by all messages that one root message caused.
	CorrelationID string
	// CausationID is the ID of the message whose handler published this one; empty at a root.
	CausationID string
	// ContentType is the MIME type of Payload; empty means the default of the receiving bus.
	ContentType string
	// Metadata are further headers; nil when there are none. W3C trace context travels here, under "traceparent" and
	// "tracestate".
	Metadata map[string]string
	// Payload is the encoded event.
	Payload []byte
	// Value is the event itself. Only transports with Capabilities.Values carry it; others ignore it.
	Value any

	// TargetGroup, if not empty, names the only group that shall get the message.
	TargetGroup string
	// NotBefore, if not zero, is the time before which the message must not be delivered.
	NotBefore time.Time
	// Attempts counts the deliveries that the event had under earlier publications of it: a delayed retry carries the
	// count on. A new message has 0.
	Attempts int
}

// Check reports why no transport can carry m: a missing ID, a text that is not UTF-8 or holds a NUL, negative numbers.
// The error matches [ErrInvalid]. Drivers call it in Publish for each message.
func (m *Message) Check() error {
	if m.ID == "" {
		return fmt.Errorf("%w: message has no ID", ErrInvalid)
	}
	if m.Version < 0 || m.Attempts < 0 {
		return fmt.Errorf("%w: message %q: version %d and attempts %d must not be negative", ErrInvalid, m.ID, m.Version, m.Attempts)
	}
	for _, f := range [...]struct{ field, text string }{
		{"ID", m.ID}, {"Name", m.Name}, {"Key", m.Key}, {"CorrelationID", m.CorrelationID},
		{"CausationID", m.CausationID}, {"ContentType", m.ContentType}, {"TargetGroup", m.TargetGroup},
	} {
		if !wellFormed(f.text) {
			return fmt.Errorf("%w: message %q: %s %q must be UTF-8 without NUL", ErrInvalid, m.ID, f.field, f.text)
		}
	}
	for k, v := range m.Metadata {
		if k == "" || !wellFormed(k) || !wellFormed(v) {
			return fmt.Errorf("%w: message %q: metadata %q=%q must be UTF-8 without NUL, and its key not empty", ErrInvalid, m.ID, k, v)
		}
	}
	return nil
}

func wellFormed(s string) bool {
	// Most texts are short ASCII; the loop spares them the calls.
	for i := 0; i < len(s); i++ {
		if c := s[i]; c == 0 || c >= utf8.RuneSelf {
			return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
		}
	}
	return true
}

// MaxNameLength is the length in bytes that [CheckName] allows.
const MaxNameLength = 255

// CheckName reports why name cannot name a topic, a group or an event; kind says which of them, for the error. A name
// is 1 to [MaxNameLength] bytes of UTF-8 without control characters, and neither begins nor ends with a space. The
// error matches [ErrInvalid].
func CheckName(kind, name string) error {
	reason := ""
	switch {
	case name == "":
		reason = "must not be empty"
	case len(name) > MaxNameLength:
		return fmt.Errorf("%w: %s %.40q… has %d bytes, %d are allowed", ErrInvalid, kind, name, len(name), MaxNameLength)
	case !utf8.ValidString(name):
		reason = "must be UTF-8"
	case strings.TrimSpace(name) != name:
		reason = "must not begin or end with a space"
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) }):
		reason = "must not hold control characters"
	default:
		return nil
	}
	return fmt.Errorf("%w: %s %q %s", ErrInvalid, kind, name, reason)
}
