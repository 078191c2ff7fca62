package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/postbus/postbus/transport"
)

func tailCommand() *command {
	var from, event, key string
	var count int
	return &command{
		name: "tail", args: "TOPIC", least: 1, most: 1, uses: usesTransport | usesJSON,
		short: "Show the messages of a topic as they are published, until Ctrl-C",
		long: `
It is no group: nobody's messages are taken, and nothing is left behind. Messages for one group alone, such as delayed
retries and replays, are not shown. RabbitMQ keeps no messages that all groups have had: there it shows what is
published from now on.`,
		examples: []string{
			"postbus tail orders --transport amqp://guest:guest@localhost",
			"postbus tail orders --from beginning --event orders.placed --count 10",
			"postbus tail orders --from 2026-01-31T12:00:00Z --json | jq -r .payload",
		},
		flags: func(f *flag.FlagSet) {
			f.StringVar(&from, "from", "now", "the `TIME` to begin at: now, beginning, or one as 2026-01-31T12:00:00Z")
			f.StringVar(&event, "event", "", "only events of this `NAME`")
			f.StringVar(&key, "key", "", "only messages of this `KEY`")
			f.IntVar(&count, "count", 0, "end after this `NUMBER` of messages; default: never")
		},
		run: func(ctx context.Context, c *call) error {
			start, err := parseStart(from)
			if err != nil {
				return err
			}
			t, err := c.openTransport(ctx)
			if err != nil {
				return err
			}
			defer t.Close()
			tailer, err := does[transport.Tailer](t, "what is published beside its groups")
			if err != nil {
				return err
			}
			shown, enough := 0, errors.New("enough")
			err = tailer.Tail(ctx, c.args[0], start, func(m *transport.Message) error {
				if event != "" && m.Name != event || key != "" && m.Key != key {
					return nil
				}
				if err := c.printMessage(c.args[0], m); err != nil {
					return err
				}
				if shown++; shown == count {
					return enough
				}
				return nil
			})
			if errors.Is(err, enough) || ctx.Err() != nil {
				return nil
			}
			return err
		},
	}
}

func parseStart(from string) (transport.Start, error) {
	switch from {
	case "now":
		return transport.StartNow(), nil
	case "beginning":
		return transport.StartBeginning(), nil
	}
	at, err := time.Parse(time.RFC3339, from)
	if err != nil {
		return transport.Start{}, usage("--from %q is neither now, nor beginning, nor a time as 2026-01-31T12:00:00Z", from)
	}
	return transport.StartAt(at), nil
}

// printMessage prints a message as a line.
func (c *call) printMessage(topic string, m *transport.Message) error {
	if c.json {
		return c.printJSON(newMessage(topic, m))
	}
	at := "-"
	if !m.Time.IsZero() {
		at = m.Time.UTC().Format("2006-01-02T15:04:05.000Z")
	}
	line := fmt.Sprintf("%s  %s  %s", at, m.ID, m.Name)
	if m.Key != "" {
		line += "  key=" + m.Key
	}
	_, err := fmt.Fprintf(c.stdout, "%s  %s\n", escape(line), escape(string(m.Payload)))
	return err
}
