package outbox

import (
	"strings"

	"github.com/postbus/postbus/transport"
)

// What a message in the outbox carries beside its own envelope, as metadata.
const (
	prefix   = "postbus_outbox_"
	keyTopic = prefix + "topic"
	keyGroup = prefix + "group" // of Message.TargetGroup, which the engine would take for one of the outbox itself
	escape   = prefix + "meta_" // precedes keys of the message's own metadata that begin with prefix
)

// wrap adds messages for topic to those for the outbox. Their delay stays: they wait in the outbox.
func wrap(all []transport.Message, topic string, msgs []transport.Message) []transport.Message {
	for _, m := range msgs {
		metadata := make(map[string]string, len(m.Metadata)+2)
		for k, v := range m.Metadata {
			if strings.HasPrefix(k, prefix) {
				k = escape + k
			}
			metadata[k] = v
		}
		metadata[keyTopic] = topic
		if m.TargetGroup != "" {
			metadata[keyGroup] = m.TargetGroup
			m.TargetGroup = ""
		}
		m.Metadata = metadata
		all = append(all, m)
	}
	return all
}

// unwrap returns the message that wrap got, and its topic. The topic is empty if m was not written by a Box.
func unwrap(m *transport.Message) (transport.Message, string) {
	topic := m.Metadata[keyTopic]
	out := *m
	out.TargetGroup = m.Metadata[keyGroup]
	out.Metadata = nil
	for k, v := range m.Metadata {
		own, escaped := strings.CutPrefix(k, escape)
		if !escaped && strings.HasPrefix(k, prefix) {
			continue
		}
		if out.Metadata == nil {
			out.Metadata = make(map[string]string, len(m.Metadata))
		}
		out.Metadata[own] = v
	}
	return out, topic
}
