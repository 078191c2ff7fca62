package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/rabbitmq"
)

func sendCommand() *command {
	var s sending
	return &command{
		name: "send", args: "EVENT [PAYLOAD|@FILE|-]", least: 1, most: 2, uses: usesTransport | usesJSON,
		short: "Publish a message, and print its id",
		long: `
The payload is an argument, the content of a file, or with "-" that of the standard input; without one it is "{}". If
the content type is JSON it must be well-formed. The topic is the name of the event up to its last dot.

A message to a group that is not on the topic would reach nobody, and is refused; RabbitMQ says only afterwards that there
was no such queue, and has dropped it.`,
		examples: []string{
			`postbus send orders.placed '{"order_id":"o-1","cents":1995}' --key o-1`,
			`postbus send orders.placed @order.json --group billing      # to one group alone`,
			`postbus send orders.reminded - --after 24h < reminder.json  # to be delivered tomorrow`,
		},
		flags: func(f *flag.FlagSet) {
			f.StringVar(&s.topic, "topic", "", "the `TOPIC`, if the program has its own rule (bus.Config.Topic)")
			f.StringVar(&s.key, "key", "", "messages of one `KEY` are handled in order")
			f.IntVar(&s.version, "version", 1, "the schema version of the event, a `NUMBER`")
			f.StringVar(&s.id, "id", "", "the `ID` of the message, so that a repetition can be told; default: a new one")
			f.StringVar(&s.correlation, "correlation", "", "the correlation `ID`; default: that of the message")
			f.StringVar(&s.contentType, "content-type", "application/json", "the MIME `TYPE` of the payload")
			f.StringVar(&s.group, "group", "", "deliver it to this `GROUP` alone")
			f.DurationVar(&s.after, "after", 0, "deliver it after this `TIME`, as 90s or 24h, not before")
			f.Var(&s.metadata, "meta", "a header, as `KEY=VALUE`; may be repeated")
			f.BoolVar(&s.force, "force", false, "send JSON that is malformed, or to a group that is not there")
		},
		run: s.run,
	}
}

// sending is the flags of send.
type sending struct {
	topic, key, id, correlation, contentType, group string
	version                                         int
	after                                           time.Duration
	metadata                                        headers
	force                                           bool
}

func (s *sending) run(ctx context.Context, c *call) error {
	payload := []byte("{}")
	if len(c.args) == 2 {
		var err error
		if payload, err = c.read(c.args[1]); err != nil {
			return err
		}
	}
	if s.contentType == "application/json" && !s.force {
		var v any
		if err := json.Unmarshal(payload, &v); err != nil {
			return fmt.Errorf("the payload is not JSON: %w; say --content-type, or --force", err)
		}
	}
	if s.after < 0 {
		return usage("--after %v must not be negative", s.after)
	}
	t, err := c.openTransport(ctx)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := s.checkGroup(ctx, t, s.topicOf(c.args[0])); err != nil {
		return err
	}
	caps := t.Capabilities()
	caps.Values = false
	var sent transport.Message
	var at string
	p, err := bus.NewPublisher(bus.PublisherConfig{
		Capabilities: caps, Codecs: []codec.Codec{raw(s.contentType)},
		Topic: s.topicOf,
		Publish: func(ctx context.Context, topic string, msgs []transport.Message) error {
			msgs[0].TargetGroup = s.group
			sent, at = msgs[0], topic
			return t.Publish(ctx, topic, msgs)
		},
	})
	if err != nil {
		return err
	}
	var e bus.Event = &rawEvent{name: c.args[0], key: s.key, version: s.version, payload: payload}
	if s.id != "" {
		e = bus.WithID(s.id, e)
	}
	if len(s.metadata) > 0 {
		e = bus.WithMetadata(s.metadata, e)
	}
	if s.after > 0 {
		e = bus.After(s.after, e)
	}
	if err := p.Publish(bus.WithCorrelationID(ctx, s.correlation), e); err != nil {
		return err
	}
	if r, ok := t.(*rabbitmq.Transport); ok && s.group != "" && !s.force && r.Status().Unroutable > 0 {
		return fmt.Errorf("the message was dropped: %w: topic %q has none of group %q", rabbitmq.ErrUnroutable, at, s.group)
	}
	if c.json {
		return c.printJSON(newMessage(at, &sent))
	}
	_, err = fmt.Fprintln(c.stdout, escape(sent.ID))
	return err
}

func (s *sending) topicOf(event string) string {
	if s.topic != "" {
		return s.topic
	}
	return bus.TopicOf(event)
}

// checkGroup refuses a group that the transport knows not to be on the topic.
func (s *sending) checkGroup(ctx context.Context, t transport.Transport, topic string) error {
	r, ok := t.(transport.StatusReporter)
	if !ok || s.group == "" || s.force {
		return nil
	}
	all, err := r.Status(ctx)
	if err != nil {
		return err
	}
	known := []string{}
	for i := range all {
		if g := &all[i]; g.Topic == topic {
			known = append(known, g.Group)
		}
	}
	if slices.Contains(known, s.group) {
		return nil
	}
	return fmt.Errorf("topic %q has no group %q, so that nobody would get the message; its groups are %q; say --force to leave it to one to come",
		topic, s.group, slices.Compact(known))
}

// read returns an argument, the content of @FILE, or for "-" the standard input.
func (c *call) read(arg string) ([]byte, error) {
	if arg == "-" {
		return io.ReadAll(c.stdin)
	}
	if file, ok := strings.CutPrefix(arg, "@"); ok {
		return os.ReadFile(file)
	}
	return []byte(arg), nil
}

// rawEvent is an event that is encoded already.
type rawEvent struct {
	name, key string
	version   int
	payload   []byte
}

func (e *rawEvent) EventName() string { return e.name }
func (e *rawEvent) EventKey() string  { return e.key }
func (e *rawEvent) EventVersion() int { return e.version }

// raw is the codec of rawEvents of a content type.
type raw string

func (r raw) ContentType() string           { return string(r) }
func (r raw) Encodes(any) bool              { return true }
func (r raw) Marshal(v any) ([]byte, error) { return v.(*rawEvent).payload, nil }
func (r raw) Unmarshal([]byte, any) error   { return errors.ErrUnsupported }

// headers is a flag that is repeated.
type headers map[string]string

func (h *headers) String() string { return "" }

func (h *headers) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return errors.New("it must be KEY=VALUE")
	}
	if *h == nil {
		*h = headers{}
	}
	(*h)[key] = value
	return nil
}
