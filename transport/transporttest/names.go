package transporttest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/postbus/postbus/transport"
)

var nameChecks = []check{
	{"names/topics", "names that a driver derives are injective: two topics never share one, whatever they hold; or the name is refused with ErrInvalid.", checkTopicNames},
	{"names/groups", "two groups of a topic never share messages, whatever their names hold; or the name is refused with ErrInvalid.", checkGroupNames},
	{"names/joined", "a topic and its group are not confused with another topic and its group whose names read the same together.", checkJoinedNames},
}

// variants are names that a careless derivation would take for one another, or for more than a name.
func variants(base string) []string {
	long := base + strings.Repeat("x", 200-len(base))
	full := long + strings.Repeat("y", transport.MaxNameLength-len(long)-1)
	return []string{
		base, strings.ToUpper(base), "T" + base[1:], base + ".a", base + "_a", base + "-a", base + "/a", base + " a", base + "a",
		base + ".A", base + "..a", base + ".a.", base + `"a`, base + `'a`, base + "`a", base + `\a`, base + ":a", base + "$a",
		base + "*", base + ".*", base + "#", base + ".#", base + "%", base + "%61", base + "?", base + "@a", base + "~a",
		base + "é", base + "e\u0301", base + "漢", base + "📦", base + "ß", base + "ss", base + "ı", base + "k", base + "\u212a",
		base + `"; drop table messages; --`, base + `'); delete from x; --`, base + "{}", base + "{a}", base + "/*", base + "--",
		base + "a\u00ad", base + "\u200b", base + "../a", base + "!a", base + "=a", base + ",a", base + ";a", base + "(a)", "1" + base,
		base + "_offsets", base + "_delayed", long + "1", long + "2", long + strings.Repeat("z", 20), full + "1", full + "2",
	}
}

// try subscribes to a name that may be refused.
func (h *harness) try(tr transport.Transport, topic, group string) transport.Subscription {
	h.Helper()
	var sub transport.Subscription
	err := h.do("Subscribe", h.cfg.Timeout, func(ctx context.Context) (err error) {
		sub, err = tr.Subscribe(ctx, transport.SubscribeConfig{Topic: topic, Group: group})
		return err
	})
	switch {
	case err == nil:
		h.Cleanup(func() { _ = sub.Close() })
		return sub
	case errors.Is(err, transport.ErrInvalid):
		h.Logf("refused: topic %.60q group %.60q: %v", topic, group, err)
		return nil
	default:
		h.broken("Subscribe to topic %q for group %q: %v", topic, group, err)
		return nil
	}
}

// isolated publishes one message to each topic, and checks that each subscription gets its own; nil ones were refused.
func (h *harness) isolated(subs map[string]transport.Subscription) {
	h.Helper()
	topics := slices.Sorted(maps.Keys(subs))
	sent := map[string]transport.Message{}
	for _, topic := range topics {
		sub, m := subs[topic], h.messages(1, "")[0]
		h.mu.Lock()
		h.labels[m.ID] = "the message to " + topic
		h.mu.Unlock()
		err := h.tryPublish(h.tr, topic, []transport.Message{m})
		switch {
		case sub == nil && err == nil:
			h.broken("topic %q was refused by Subscribe and accepted by Publish", topic)
		case sub != nil && err != nil:
			h.broken("topic %q was accepted by Subscribe and refused by Publish: %v", topic, err)
		case sub == nil && !errors.Is(err, transport.ErrInvalid):
			h.broken("Publish to topic %q: %v", topic, err)
		}
		sent[topic] = m
	}
	slices.Reverse(topics) // so that one who shares a queue with another gets the other's first
	for _, topic := range topics {
		if subs[topic] != nil {
			h.drain(subs[topic], sent[topic])
		}
	}
}

func checkTopicNames(h *harness) {
	group := h.name("group")
	subs := map[string]transport.Subscription{}
	for _, topic := range variants(h.name("topic")) {
		subs[topic] = h.try(h.tr, topic, group)
	}
	h.isolated(subs)
	h.allQuiet(subs, "the only message to this topic has come")
}

// allQuiet is quiet, on many subscriptions at once.
func (h *harness) allQuiet(subs map[string]transport.Subscription, why string) {
	h.Helper()
	var mu sync.Mutex
	came := map[string][]transport.Delivery{}
	_ = h.do("Receive", h.cfg.Quiet, func(ctx context.Context) error {
		var wg sync.WaitGroup
		for name, sub := range subs {
			if sub == nil {
				continue
			}
			wg.Go(func() {
				if ds, err := sub.Receive(ctx, 10); err == nil {
					mu.Lock()
					came[name] = ds
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return nil
	})
	for name, ds := range came {
		h.broken("%q: %s, but this came:%s", name, why, h.list(ds))
	}
}

func checkGroupNames(h *harness) {
	topic := h.name("topic")
	subs := map[string]transport.Subscription{}
	for _, group := range variants(h.name("group")) {
		if sub := h.try(h.tr, topic, group); sub != nil {
			subs[group] = sub
		}
	}
	m := h.messages(1, "")
	h.publish(h.tr, topic, m...)
	for group, sub := range subs {
		h.mu.Lock()
		h.labels[m[0].ID] = "the message for group " + group
		h.mu.Unlock()
		h.drain(sub, m...)
	}
	h.allQuiet(subs, "the only message for this group has come")
}

func checkJoinedNames(h *harness) {
	base := h.name("t")
	for _, sep := range []string{".", "_", "-", "/", ":", " ", "@"} {
		topic := base + sep + "a"
		subs := map[string]transport.Subscription{
			topic:             h.try(h.tr, topic, "b"+sep+"c"),
			topic + sep + "b": h.try(h.tr, topic+sep+"b", "c"),
		}
		h.isolated(subs)
	}
}
