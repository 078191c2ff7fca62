package bus

import (
	"errors"
	"strings"
	"testing"

	"github.com/postbus/postbus/transport"
)

func TestTopicOf(t *testing.T) {
	t.Parallel()
	for name, topic := range map[string]string{
		"orders.placed": "orders", "shop.orders.placed": "shop.orders", "ping": "ping", "": "", "a.": "a", ".a": "",
	} {
		if got := TopicOf(name); got != topic {
			t.Errorf("TopicOf(%q) = %q, want %q", name, got, topic)
		}
	}
}

func FuzzNames(f *testing.F) {
	for _, name := range []string{
		"orders.placed", "ping", "", ".", "a.", ".a", "a..b", " a", "a .b", "a. b", "a b.c d", "ä.ö", "a\x00b", "a\xffb", "a\x7f",
		"a\u0085b", "a\u00a0.b", strings.Repeat("x", 255), strings.Repeat("x", 256), "'; drop table x; --.y",
	} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		topic := TopicOf(name)
		if !strings.HasPrefix(name, topic) || strings.Contains(strings.TrimPrefix(strings.TrimPrefix(name, topic), "."), ".") {
			t.Errorf("TopicOf(%q) = %q", name, topic)
		}
		err := checkEventName(name)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Errorf("%q: %v does not match ErrInvalid", name, err)
			}
			return
		}
		if err := transport.CheckName("topic", topic); err != nil {
			t.Errorf("event name %q is fine, but its topic is not: %v", name, err)
		}
		if strings.ContainsAny(name, "\x00\n") || len(name) > transport.MaxNameLength {
			t.Errorf("event name %q is fine", name)
		}
		// The same name is the same route, and what is checked once stays good.
		if b, err := New(Config{}); err == nil {
			r, err := b.publisher.route(name)
			if err != nil || r.topic != topic || r.name != name {
				t.Errorf("route of %q: %v, %v", name, r, err)
			}
		}
	})
}
