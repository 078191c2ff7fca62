package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/postbus/postbus/transport"
)

// escape writes control characters, and what is not UTF-8, as Go source text has them, on one line: texts of messages and
// errors come from anywhere, and could write anything to a terminal.
func escape(s string) string { return escaped(s, "") }

// escapeLines is escape that leaves line breaks and tabs.
func escapeLines(s string) string { return escaped(s, "\n\t") }

func escaped(s, but string) string {
	if !strings.ContainsFunc(s, func(r rune) bool { return harmful(r) || r == utf8.RuneError }) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case harmful(r) && !strings.ContainsRune(but, r):
			q := fmt.Sprintf("%+q", string(r))
			b.WriteString(q[1 : len(q)-1])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// harmful characters move the cursor, or change the order of what is shown (Unicode Technical Report 36).
func harmful(r rune) bool {
	return unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029'
}

// printJSON writes v as one line.
func (c *call) printJSON(v any) error {
	line, err := json.Marshal(v)
	if err != nil {
		return err
	}
	// JSON escapes what is below a space, and leaves these.
	var b bytes.Buffer
	for _, r := range string(line) {
		if harmful(r) && r <= 0xffff {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteByte('\n')
	_, err = c.stdout.Write(b.Bytes())
	return err
}

// table prints rows in columns.
type table struct{ *tabwriter.Writer }

func (c *call) table(head ...any) table {
	t := table{tabwriter.NewWriter(c.stdout, 0, 8, 2, ' ', 0)}
	t.row(head...)
	return t
}

func (t table) row(cells ...any) {
	for i, cell := range cells {
		if i > 0 {
			_, _ = io.WriteString(t, "\t")
		}
		text := escape(fmt.Sprint(cell))
		if text == "" {
			text = "-"
		}
		_, _ = io.WriteString(t, text)
	}
	_, _ = io.WriteString(t, "\n")
}

// age writes a duration with two units at most.
func age(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d >= day:
		return fmt.Sprintf("%dd%dh", d/day, d%day/time.Hour)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Millisecond).String()
}

// message is a transport.Message as JSON. Payload is that of text, Base64 of any other.
type message struct {
	ID            string            `json:"id"`
	Topic         string            `json:"topic,omitempty"`
	Event         string            `json:"event,omitempty"`
	Version       int               `json:"version,omitempty"`
	Key           string            `json:"key,omitempty"`
	Time          *time.Time        `json:"time,omitempty"`
	CorrelationID string            `json:"correlation_id,omitempty"`
	CausationID   string            `json:"causation_id,omitempty"`
	ContentType   string            `json:"content_type,omitempty"`
	Metadata      map[string]string `json:"metadata,omitempty"`
	Payload       string            `json:"payload"`
	Base64        []byte            `json:"payload_base64,omitempty"`
}

func newMessage(topic string, m *transport.Message) message {
	out := message{
		ID: m.ID, Topic: topic, Event: m.Name, Version: m.Version, Key: m.Key, CorrelationID: m.CorrelationID,
		CausationID: m.CausationID, ContentType: m.ContentType, Metadata: m.Metadata,
	}
	if !m.Time.IsZero() {
		out.Time = &m.Time
	}
	if utf8.Valid(m.Payload) {
		out.Payload = string(m.Payload)
	} else {
		out.Base64 = m.Payload
	}
	return out
}
