package transporttest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
)

// harness is what a check works with. Its methods end the check when the transport does not do as it should; only those
// that say so may be called outside of the check's own goroutine.
type harness struct {
	testing.TB
	cfg    Config
	rule   string
	opener Opener
	tr     transport.Transport
	caps   transport.Capabilities

	mu     sync.Mutex
	labels map[string]string // of the messages by ID, for errors
}

// broken ends the check: the rule was broken in this way.
func (h *harness) broken(format string, args ...any) {
	h.Helper()
	h.Fatalf("%s\n\tbroken rule: %s", fmt.Sprintf(format, args...), h.rule)
}

// need skips the check unless ok.
func (h *harness) need(ok bool, format string, args ...any) {
	h.Helper()
	if !ok {
		h.Skipf("not for this transport: "+format, args...)
	}
}

func (h *harness) needInFlight(n int) {
	h.Helper()
	h.need(h.cfg.InFlight == 0 || h.cfg.InFlight >= n, "it has at most %d deliveries in flight", h.cfg.InFlight)
}

// do calls f with a context that ends after limit, and ends the check if f does not return soon after that.
func (h *harness) do(what string, limit time.Duration, f func(ctx context.Context) error) error {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), limit)
	defer cancel()
	returned := make(chan error, 1)
	go func() { returned <- f(ctx) }()
	guard := time.NewTimer(limit + h.cfg.Timeout)
	defer guard.Stop()
	select {
	case err := <-returned:
		return err
	case <-guard.C:
		h.broken("%s has not returned %s after its context ended", what, h.cfg.Timeout)
		return nil
	}
}

// must is do, for what must succeed in time.
func (h *harness) must(what string, f func(ctx context.Context) error) {
	h.Helper()
	if err := h.do(what, h.cfg.Timeout, f); err != nil {
		h.broken("%s: %v", what, err)
	}
}

// open opens another transport on the data of the check.
func (h *harness) open() (tr transport.Transport) {
	h.Helper()
	h.must("opening the transport", func(ctx context.Context) (err error) {
		tr, err = h.opener(ctx)
		return err
	})
	h.Cleanup(func() {
		if err := tr.Close(); err != nil {
			h.Errorf("closing the transport at the end: %v", err)
		}
	})
	return tr
}

// name returns a name that nobody else uses, for a topic or a group.
func (h *harness) name(prefix string) string {
	return prefix + "-" + strings.ToLower(rand.Text()[:12])
}

// closeTransport closes a transport before the end of the check.
func (h *harness) closeTransport(tr transport.Transport) {
	h.Helper()
	h.must("Transport.Close", func(context.Context) error { return tr.Close() })
}

func (h *harness) subscribe(tr transport.Transport, cfg transport.SubscribeConfig) (sub transport.Subscription) {
	h.Helper()
	h.must("Subscribe", func(ctx context.Context) (err error) {
		sub, err = tr.Subscribe(ctx, cfg)
		return err
	})
	h.Cleanup(func() {
		if err := sub.Close(); err != nil && !errors.Is(err, transport.ErrClosed) {
			h.Errorf("closing the subscription at the end: %v", err)
		}
	})
	return sub
}

// join subscribes a group with the defaults.
func (h *harness) join(tr transport.Transport, topic, group string) transport.Subscription {
	h.Helper()
	return h.subscribe(tr, transport.SubscribeConfig{Topic: topic, Group: group})
}

func (h *harness) closeSub(sub transport.Subscription) {
	h.Helper()
	h.must("Subscription.Close", func(context.Context) error { return sub.Close() })
}

func (h *harness) publish(tr transport.Transport, topic string, msgs ...transport.Message) {
	h.Helper()
	h.must("Publish", func(ctx context.Context) error { return tr.Publish(ctx, topic, msgs) })
}

// messages makes n messages with one key, each with a label of its own for errors. It may be called by any goroutine.
func (h *harness) messages(n int, key string) []transport.Message {
	msgs := make([]transport.Message, n)
	h.mu.Lock()
	defer h.mu.Unlock()
	for i := range msgs {
		label := len(h.labels) + 1
		msgs[i] = transport.Message{
			ID: newID(), Name: "transporttest.happened", Key: key, Time: now(),
			Payload: fmt.Appendf(nil, `{"n": %d}`, label),
		}
		h.labels[msgs[i].ID] = fmt.Sprintf("#%d", label)
	}
	return msgs
}

func newID() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return fmt.Sprintf("%x-%x-4%x-a%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])[:36]
}

// now is the time with the precision that every transport must keep.
func now() time.Time { return time.Now().UTC().Truncate(time.Microsecond) }

// label names a message in errors. It may be called by any goroutine.
func (h *harness) label(id string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if label, ok := h.labels[id]; ok {
		return label
	}
	return fmt.Sprintf("%.50q", id)
}

// labelOf names a delivery in errors.
func (h *harness) labelOf(d transport.Delivery) string {
	if d.Message == nil && d.Lazy != nil {
		return h.label(d.Lazy.Message().ID)
	}
	return h.label(d.ID)
}

func (h *harness) list(ds []transport.Delivery) string {
	var b strings.Builder
	for i, d := range ds {
		if i == 20 {
			fmt.Fprintf(&b, " and %d more", len(ds)-i)
			break
		}
		fmt.Fprintf(&b, " %s", h.labelOf(d))
		if d.Attempt != 1 {
			fmt.Fprintf(&b, " (attempt %d)", d.Attempt)
		}
	}
	if len(ds) == 0 {
		return " none"
	}
	return b.String()
}

func (h *harness) listMessages(msgs []transport.Message) string {
	ds := make([]transport.Delivery, len(msgs))
	for i := range msgs {
		ds[i] = transport.Delivery{Message: &msgs[i], Attempt: 1}
	}
	return h.list(ds)
}
