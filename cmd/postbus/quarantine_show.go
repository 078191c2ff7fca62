package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/postbus/postbus/middleware/quarantine"
	"github.com/postbus/postbus/transport"
)

// recordLine is all of an entry as JSON.
type recordLine struct {
	entryLine
	Errors      []string      `json:"errors"`
	Stack       string        `json:"stack,omitempty"`
	Message     message       `json:"message"`
	Replacement *message      `json:"replacement,omitempty"`
	History     []failureLine `json:"history"`
	Omitted     int           `json:"history_omitted,omitempty"`
}

type failureLine struct {
	Time    time.Time `json:"time"`
	Attempt int       `json:"attempt"`
	Replay  int       `json:"replay"`
	Error   string    `json:"error"`
}

func quarantineShowCommand() *command {
	var payload bool
	return &command{
		name: "quarantine show", args: "ID", least: 1, most: 1, uses: usesStore | usesJSON,
		short: "Show an entry: the message, the chain of the error, the stack of a panic, the history",
		examples: []string{
			"postbus quarantine show 17",
			"postbus quarantine show 17 --payload > order.json  # the bytes that a replay would send",
			"postbus quarantine show 17 --json | jq .message.metadata",
		},
		flags: func(f *flag.FlagSet) {
			f.BoolVar(&payload, "payload", false, "print the payload as it is, every byte, and nothing else; that of an edit, if there is one")
		},
		run: func(ctx context.Context, c *call) error {
			id, err := parseID(c.args[0])
			if err != nil {
				return err
			}
			q, err := c.openQuarantine(ctx, nil)
			if err != nil {
				return err
			}
			defer q.Close()
			r, err := q.Show(ctx, id)
			if err != nil {
				return err
			}
			switch {
			case payload:
				m := &r.Message
				if r.Replacement != nil {
					m = r.Replacement
				}
				_, err = c.stdout.Write(m.Payload)
				return err
			case c.json:
				return c.printRecordJSON(r)
			}
			return c.printRecord(r)
		},
	}
}

func (c *call) printRecordJSON(r *quarantine.Record) error {
	line := recordLine{
		entryLine: newEntryLine(&r.Entry), Errors: r.Errors, Stack: r.Stack, Message: newMessage(r.Topic, &r.Message), Omitted: r.Omitted,
	}
	if r.Replacement != nil {
		m := newMessage(r.Topic, r.Replacement)
		line.Replacement = &m
	}
	for _, h := range r.History {
		line.History = append(line.History, failureLine{h.Time.UTC(), h.Attempt, h.Replay, h.Error})
	}
	return c.printJSON(line)
}

func (c *call) printRecord(r *quarantine.Record) error {
	var b bytes.Buffer
	t := (&call{stdout: &b}).table("entry", fmt.Sprintf("%d, %s", r.ID, r.Status))
	t.row("group", r.Group)
	t.row("topic", r.Topic)
	t.row("kind", r.Fingerprint)
	t.row("failed", fmt.Sprintf("%d times; here since %s, failed last %s", r.Attempts, stamp(r.First), stamp(r.Last)))
	t.row("replayed", fmt.Sprintf("%d times", r.Replays))
	_ = t.Flush()
	printEnvelope(&b, "message, as it came", &r.Message)
	if r.Replacement != nil {
		printEnvelope(&b, "message, as it was edited", r.Replacement)
	}
	fmt.Fprintf(&b, "\nerror:\n")
	for i, text := range r.Errors {
		fmt.Fprintf(&b, "  %s%s\n", strings.Repeat("  ", min(i, 10)), escape(text))
	}
	if r.Stack != "" {
		fmt.Fprintf(&b, "\nstack of the panic:\n")
		indent(&b, r.Stack)
	}
	fmt.Fprintf(&b, "\nhistory:\n")
	for i, h := range r.History {
		if r.Omitted > 0 && i == len(r.History)/2 {
			fmt.Fprintf(&b, "  … %d more …\n", r.Omitted)
		}
		of := fmt.Sprintf("delivery %d", h.Attempt)
		if h.Replay > 0 {
			of += fmt.Sprintf(" of replay %d", h.Replay)
		}
		fmt.Fprintf(&b, "  %s  %s  %s\n", stamp(h.Time), of, escape(firstLine(h.Error, 100)))
	}
	_, err := io.Copy(c.stdout, &b)
	return err
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

func printEnvelope(b *bytes.Buffer, title string, m *transport.Message) {
	fmt.Fprintf(b, "\n%s:\n", title)
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %s: %s\n", name, escape(value))
		}
	}
	line("id", m.ID)
	line("event", m.Name)
	if m.Version > 1 {
		line("version", fmt.Sprint(m.Version))
	}
	line("key", m.Key)
	if !m.Time.IsZero() {
		line("published", stamp(m.Time))
	}
	line("correlation id", m.CorrelationID)
	line("causation id", m.CausationID)
	line("content type", m.ContentType)
	for _, k := range slices.Sorted(maps.Keys(m.Metadata)) {
		line("metadata "+escape(k), m.Metadata[k])
	}
	fmt.Fprintf(b, "  payload, %d bytes:\n", len(m.Payload))
	text := string(m.Payload)
	if pretty := new(bytes.Buffer); json.Indent(pretty, m.Payload, "", "  ") == nil {
		text = pretty.String()
	} else if !utf8.ValidString(text) {
		text = fmt.Sprintf("%q", text)
	}
	indent(b, text)
}

func indent(b *bytes.Buffer, text string) {
	for line := range strings.Lines(text) {
		fmt.Fprintf(b, "    %s\n", escape(strings.TrimSuffix(line, "\n")))
	}
}
