package quarantine

import (
	"context"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// Defaults of NewTopic.
const (
	DefaultTopic      = "postbus.quarantine"
	DefaultTopicGroup = "quarantine"
)

// What a message in a Topic carries beside its own envelope, as metadata.
const (
	topicPrefix      = "postbus_quarantine_"
	topicFrom        = topicPrefix + "topic"
	topicGroup       = topicPrefix + "group"
	topicError       = topicPrefix + "error"
	topicAttempts    = topicPrefix + "attempts"
	topicFingerprint = topicPrefix + "fingerprint"
	topicTime        = topicPrefix + "time"
)

// Topic is a quarantine for who has no database: a topic on a transport, to which messages are published with the reason.
// What can be done with one is to read it, with a group as any other topic, and to publish what ReadTopic returns. It
// cannot list, count, find or show without reading, and not change: an entry leaves when the group has acknowledged it. A
// message that fails again after that is another entry; keys are not parked. Where there is any database, use a Store.
type Topic struct {
	transport   transport.Transport
	name, group string
}

// NewTopic makes a Topic on t, which stays the caller's to close. It subscribes group to it and closes the subscription,
// for messages to a topic without a group are forgotten on some transports. Empty names are DefaultTopic and
// DefaultTopicGroup. ctx bounds the call.
func NewTopic(ctx context.Context, t transport.Transport, name, group string) (*Topic, error) {
	q := &Topic{transport: t, name: orElse(name, DefaultTopic), group: orElse(group, DefaultTopicGroup)}
	sub, err := t.Subscribe(ctx, transport.SubscribeConfig{Topic: q.name, Group: q.group})
	if err == nil {
		err = sub.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("quarantine: topic %q: %w", q.name, err)
	}
	return q, nil
}

func orElse(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}

// Put implements middleware.Quarantine. After a crash a message can come into the topic twice.
func (q *Topic) Put(ctx context.Context, d *bus.Delivery, cause error) error {
	f, err := newFailure(d, cause)
	if err != nil {
		return fmt.Errorf("quarantine: put %q: %w", d.Message().ID, err)
	}
	m := *f.message
	m.TargetGroup, m.NotBefore, m.Attempts = "", time.Time{}, 0
	if m.Metadata = maps.Clone(m.Metadata); m.Metadata == nil {
		m.Metadata = map[string]string{}
	}
	m.Metadata[topicFrom], m.Metadata[topicGroup] = f.topic, f.group
	m.Metadata[topicError] = strings.ReplaceAll(strings.ToValidUTF8(cut(f.errors[0], maxPast), "\uFFFD"), "\x00", "\uFFFD")
	m.Metadata[topicAttempts], m.Metadata[topicFingerprint] = strconv.Itoa(f.attempt), f.fp
	m.Metadata[topicTime] = wire.FormatTime(time.UnixMilli(f.at))
	if err := q.transport.Publish(ctx, q.name, []transport.Message{m}); err != nil {
		return fmt.Errorf("quarantine: put %q: %w", m.ID, err)
	}
	return nil
}

// Kept is a message of a Topic.
type Kept struct {
	// Topic and Group are where it failed. Message is what came, with TargetGroup: publishing it to Topic replays it.
	Topic, Group string
	Message      transport.Message
	// Error is the text of the error, or its beginning, Attempts how many deliveries had failed, and Time when the last did.
	Error       string
	Attempts    int
	Time        time.Time
	Fingerprint string
}

// ReadTopic undoes what Topic.Put has done with a message. The error matches bus.ErrInvalid if that was not published by
// it.
func ReadTopic(m *transport.Message) (Kept, error) {
	k := Kept{
		Topic: m.Metadata[topicFrom], Group: m.Metadata[topicGroup], Message: *m, Error: m.Metadata[topicError],
		Fingerprint: m.Metadata[topicFingerprint],
	}
	if k.Topic == "" || k.Group == "" {
		return Kept{}, fmt.Errorf("quarantine: %w: message %q was not put into quarantine", bus.ErrInvalid, m.ID)
	}
	k.Attempts, _ = strconv.Atoi(m.Metadata[topicAttempts])
	k.Time, _ = time.Parse(time.RFC3339Nano, m.Metadata[topicTime])
	k.Message.TargetGroup, k.Message.NotBefore, k.Message.Attempts = k.Group, time.Time{}, 0
	k.Message.Metadata = nil
	for key, v := range m.Metadata {
		if strings.HasPrefix(key, topicPrefix) {
			continue
		}
		if k.Message.Metadata == nil {
			k.Message.Metadata = map[string]string{}
		}
		k.Message.Metadata[key] = v
	}
	return k, nil
}
