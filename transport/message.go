package transport

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Message is the envelope that travels. A driver maps its fields to its own headers or columns.
//
// A message that was handed to Publish, or came from Receive, is not changed any more, by nobody: its Payload, Metadata
// and Value can be shared with other groups and with later deliveries. Who needs another one makes a copy.
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
	// The fields one by one, and not in a loop over a list of them: this runs for every message.
	switch {
	case !wellFormed(m.ID):
		return malformed(m, "ID", m.ID)
	case m.Name != "" && !wellFormed(m.Name):
		return malformed(m, "Name", m.Name)
	case m.Key != "" && !wellFormed(m.Key):
		return malformed(m, "Key", m.Key)
	case m.CorrelationID != m.ID && !wellFormed(m.CorrelationID):
		return malformed(m, "CorrelationID", m.CorrelationID)
	case m.CausationID != "" && !wellFormed(m.CausationID):
		return malformed(m, "CausationID", m.CausationID)
	case m.ContentType != "" && !wellFormed(m.ContentType):
		return malformed(m, "ContentType", m.ContentType)
	case m.TargetGroup != "" && !wellFormed(m.TargetGroup):
		return malformed(m, "TargetGroup", m.TargetGroup)
	}
	if m.Metadata == nil { // ranging over it would cost as much as all the above
		return nil
	}
	for k, v := range m.Metadata {
		if k == "" || !wellFormed(k) || !wellFormed(v) {
			return fmt.Errorf("%w: message %q: metadata %q=%q must be UTF-8 without NUL, and its key not empty", ErrInvalid, m.ID, k, v)
		}
	}
	return nil
}

func malformed(m *Message, field, text string) error {
	return fmt.Errorf("%w: message %q: %s %q must be UTF-8 without NUL", ErrInvalid, m.ID, field, text)
}

// wellFormed reports whether s is UTF-8 without NUL.
func wellFormed(s string) bool {
	if len(s) < 8 {
		for i := 0; i < len(s); i++ {
			if s[i] == 0 || s[i] >= utf8.RuneSelf {
				return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
			}
		}
		return true
	}
	// Most texts are ASCII: look at eight bytes at a time, the last eight overlapping.
	for i := 0; ; i += 8 {
		i = min(i, len(s)-8)
		w := s[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		const ones, tops = 0x0101010101010101, 0x8080808080808080
		if (x|(x-ones))&tops != 0 { // a byte that is not ASCII, or zero
			return utf8.ValidString(s) && strings.IndexByte(s, 0) < 0
		}
		if i == len(s)-8 {
			return true
		}
	}
}

// MaxNameLength is the length in bytes that [CheckName] allows.
const MaxNameLength = 255

// CheckName reports why name cannot name a topic, a group or an event; kind says which of them, for the error. A name
// is 1 to [MaxNameLength] bytes of UTF-8 without control characters, and neither begins nor ends with a space. The
// error matches [ErrInvalid].
func CheckName(kind, name string) error {
	reason := ""
	switch {
	case isPlain(name):
		return nil
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

// isPlain reports whether name is short and of printable ASCII without spaces, as almost all are: CheckName runs for
// every message.
func isPlain(name string) bool {
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] >= 0x7f {
			return false
		}
	}
	return name != "" && len(name) <= MaxNameLength
}
