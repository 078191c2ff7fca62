package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/transport"
)

// ward is a quarantine.
type ward struct {
	mu   sync.Mutex
	fail error
	got  []string
}

func (w *ward) Put(_ context.Context, d *bus.Delivery, cause error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		return w.fail
	}
	w.got = append(w.got, fmt.Sprint(d.Group, " ", d.Topic, " ", d.Message().ID, " ", cause))
	return nil
}

func (w *ward) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.got)
}

// TestForwardRefused: a message that the target refuses goes into quarantine, and the others go on.
func TestForwardRefused(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		r := target{refuse: func(_ string, m *transport.Message) error {
			switch m.ID {
			case "a2":
				return fmt.Errorf("%w: 7 bytes", transport.ErrTooLarge)
			case "b1":
				return bus.Permanent(errors.New("no"))
			}
			return nil
		}}
		w := ward{fail: errors.New("the quarantine is away")}
		fw := forward(t, box, &r, outbox.ForwarderConfig{Quarantine: &w})
		f.commit(t, box, order("a", 1), order("a", 2), order("a", 3), order("b", 1), order("b", 2))
		r.want(t, "orders a1", "orders a3", "orders b2")
		eventually(t, "2 messages held", func() bool {
			b, err := fw.Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return b.Held == 2 && b.Messages == 2
		})
		w.mu.Lock()
		w.fail = nil
		w.mu.Unlock()
		eventually(t, "2 messages in quarantine", func() bool { return len(w.all()) >= 2 })
		want := []string{"postbus_outbox orders a2 transport: payload too large: 7 bytes", "postbus_outbox orders b1 no"}
		if got := slices.Sorted(slices.Values(w.all())); !slices.Equal(got, want) { // one may have come a try later
			t.Errorf("quarantine has %q, want %q", got, want)
		}
		eventually(t, "no backlog", func() bool {
			b, err := fw.Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return b.Messages == 0 && b.Held == 0
		})
	})
}

// TestForwardWithoutQuarantine: what is refused stays, and another Forwarder finds it.
func TestForwardWithoutQuarantine(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		r := target{refuse: func(_ string, m *transport.Message) error {
			if m.ID == "a1" {
				return transport.ErrUnsupported
			}
			return nil
		}}
		first := forward(t, box, &r, outbox.ForwarderConfig{})
		f.commit(t, box, order("a", 1), order("a", 2))
		r.want(t, "orders a2")
		stopForwarder(t, first)
		r.set(func() { r.refuse = nil })
		forward(t, box, &r, outbox.ForwarderConfig{})
		r.want(t, "orders a2", "orders a1")
	})
}

// TestForwardOneKeyWaits: a message that fails for now holds up those of its key, and no others.
func TestForwardOneKeyWaits(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		tries := 0
		var r target
		r.refuse = func(_ string, m *transport.Message) error {
			if m.ID == "a1" { // those tries after the first come with the others in the outbox
				if tries++; tries < 6 || !slices.Contains(r.got, "orders b2") {
					return errors.New("not now")
				}
			}
			return nil
		}
		forward(t, box, &r, outbox.ForwarderConfig{})
		f.commit(t, box, order("a", 1))
		f.commit(t, box, order("b", 1))
		r.want(t, "orders b1")
		f.commit(t, box, order("a", 2))
		f.commit(t, box, order("b", 2))
		r.want(t, "orders b1", "orders b2", "orders a1", "orders a2")
	})
}

// TestForwardTopicsApart: a topic that fails does not hold up another.
func TestForwardTopicsApart(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		r := target{fail: func(_ context.Context, topic string) error {
			if topic == "orders" {
				return errors.New("not now")
			}
			return nil
		}}
		forward(t, box, &r, outbox.ForwarderConfig{})
		f.commit(t, box, order("a", 1), bus.WithID("p", paid{"x"}))
		r.want(t, "payments p")
		r.set(func() { r.fail = nil })
		r.want(t, "payments p", "orders a1")
	})
}

// TestForwardForeign: what somebody else wrote into the outbox is refused, and the others go on.
func TestForwardForeign(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		if err := f.transport().Publish(t.Context(), outbox.DefaultName, []transport.Message{{ID: "x"}}); err != nil {
			t.Fatal(err)
		}
		var r target
		var w ward
		forward(t, box, &r, outbox.ForwarderConfig{Quarantine: &w})
		f.commit(t, box, order("a", 1))
		r.want(t, "orders a1")
		eventually(t, "the message in quarantine", func() bool { return len(w.all()) == 1 && strings.Contains(w.all()[0], "not written by a Box") })
	})
}

// TestForwardRefusedTogether: a target that refuses a whole publication because of one message costs the others nothing.
func TestForwardRefusedTogether(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box := f.box(outbox.Config{Logger: quiet})
		r := target{whole: true, refuse: func(_ string, m *transport.Message) error {
			if m.ID == "a2" {
				return fmt.Errorf("%w: nested too deeply", transport.ErrInvalid)
			}
			return nil
		}}
		var w ward
		f.commit(t, box, order("a", 1), order("a", 2), order("a", 3), order("b", 1))
		forward(t, box, &r, outbox.ForwarderConfig{Quarantine: &w})
		r.want(t, "orders a1", "orders a3", "orders b1")
		eventually(t, "1 message in quarantine", func() bool { return len(w.all()) > 0 })
		if got := w.all(); len(got) != 1 || !strings.HasPrefix(got[0], "postbus_outbox orders a2 ") {
			t.Errorf("quarantine has %q", got)
		}
	})
}
