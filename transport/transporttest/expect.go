package transporttest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/postbus/postbus/transport"
)

// receive gets n deliveries, each within Config.Timeout of the one before.
func (h *harness) receive(sub transport.Subscription, n int) (got []transport.Delivery) {
	h.Helper()
	for len(got) < n {
		var batch []transport.Delivery
		err := h.do("Receive", h.cfg.Timeout, func(ctx context.Context) (err error) {
			batch, err = sub.Receive(ctx, n-len(got))
			return err
		})
		if err == nil && len(batch) == 0 {
			err = errors.New("it returned neither a delivery nor an error")
		}
		if slices.ContainsFunc(batch, func(d transport.Delivery) bool { return d.Message == nil }) {
			err = errors.New("a delivery has no Message")
		}
		if err != nil {
			h.broken("Receive: %v; %d of %d deliveries have come:%s", err, len(got), n, h.list(got))
		}
		got = append(got, batch...)
	}
	return got
}

// expect gets one delivery of each message, and nothing else; in their order if the transport keeps one for them. It
// returns the deliveries in the order of msgs.
func (h *harness) expect(sub transport.Subscription, msgs ...transport.Message) []transport.Delivery {
	h.Helper()
	got := h.receive(sub, len(msgs))
	h.compare(got, msgs)
	return h.sorted(got, msgs)
}

// drain is expect, and acknowledges all, as many at a time as may be in flight.
func (h *harness) drain(sub transport.Subscription, msgs ...transport.Message) []transport.Delivery {
	h.Helper()
	step := 100
	if h.cfg.InFlight > 0 {
		step = min(step, h.cfg.InFlight)
	}
	var got []transport.Delivery
	for len(got) < len(msgs) {
		ds := h.receive(sub, min(step, len(msgs)-len(got)))
		got = append(got, ds...)
		h.ack(sub, ds...)
	}
	h.compare(got, msgs)
	return h.sorted(got, msgs)
}

// compare ends the check unless got are the deliveries of want, each once.
func (h *harness) compare(got []transport.Delivery, want []transport.Message) {
	h.Helper()
	times := map[string]int{}
	for _, d := range got {
		times[d.ID]++
	}
	for _, m := range want {
		if times[m.ID] != 1 {
			h.broken("%s came %d times; expected, each once:%s; came:%s",
				h.label(m.ID), times[m.ID], h.listMessages(want), h.list(got))
		}
		delete(times, m.ID)
	}
	for id := range times {
		h.broken("%s came, which was not expected; expected, each once:%s; came:%s",
			h.label(id), h.listMessages(want), h.list(got))
	}
	if h.caps.Order == transport.OrderNone {
		return
	}
	keys, next := map[string]string{}, map[string][]string{}
	for _, m := range want {
		if h.caps.Order == transport.OrderPerKey {
			keys[m.ID] = m.Key
		}
		next[keys[m.ID]] = append(next[keys[m.ID]], m.ID)
	}
	for _, d := range got {
		key := keys[d.ID]
		due := next[key][0]
		next[key] = next[key][1:]
		if due != d.ID && (key != "" || h.caps.Order == transport.OrderPerTopic) {
			h.broken("%s came where %s was next (order is kept %s); expected:%s; came:%s", h.label(d.ID), h.label(due),
				h.caps.Order, h.listMessages(want), h.list(got))
		}
	}
}

func (h *harness) sorted(got []transport.Delivery, msgs []transport.Message) []transport.Delivery {
	byID := map[string]transport.Delivery{}
	for _, d := range got {
		byID[d.ID] = d
	}
	out := make([]transport.Delivery, len(msgs))
	for i, m := range msgs {
		out[i] = byID[m.ID]
	}
	return out
}

// quiet ends the check if anything comes in the quiet window.
func (h *harness) quiet(sub transport.Subscription, why string) {
	h.Helper()
	var got []transport.Delivery
	err := h.do("Receive", h.cfg.Quiet, func(ctx context.Context) (err error) {
		got, err = sub.Receive(ctx, 100)
		return err
	})
	switch {
	case err == nil:
		h.broken("%s, but this came:%s", why, h.list(got))
	case !errors.Is(err, context.DeadlineExceeded):
		h.broken("Receive must return the error of its context when that ends; it returned: %v", err)
	}
}

func (h *harness) settle(sub transport.Subscription, outcome transport.Outcome, ds ...transport.Delivery) {
	h.Helper()
	settlements := make([]transport.Settlement, len(ds))
	for i, d := range ds {
		settlements[i] = transport.Settlement{Tag: d.Tag, Outcome: outcome}
	}
	h.must("Settle", func(ctx context.Context) error { return sub.Settle(ctx, settlements) })
}

func (h *harness) ack(sub transport.Subscription, ds ...transport.Delivery) {
	h.Helper()
	h.settle(sub, transport.Ack, ds...)
}

// attempt ends the check unless the delivery has the attempt count, as far as the transport can count.
func (h *harness) attempt(d transport.Delivery, want int) {
	h.Helper()
	exact := !h.cfg.InexactAttempts || want == 1
	if d.Attempt != want && (exact || d.Attempt < 2) {
		h.broken("%s has Attempt %d, want %d", h.labelOf(d), d.Attempt, want)
	}
}

// attemptReleased is attempt, for a delivery that was released after it had been tried n times, this time included.
func (h *harness) attemptReleased(d transport.Delivery, n int) {
	h.Helper()
	if h.cfg.ReleaseCounts || h.cfg.InexactAttempts {
		least := n
		if h.cfg.InexactAttempts {
			least = min(n, 2) // it knows no more than that there was a delivery before
		}
		if d.Attempt < least {
			h.broken("%s has Attempt %d, want %d or more", h.labelOf(d), d.Attempt, least)
		}
		return
	}
	h.attempt(d, n)
}

// same ends the check unless got carries what want does.
func (h *harness) same(got transport.Delivery, want transport.Message) {
	h.Helper()
	if diff := difference(*got.Message, want); diff != "" {
		h.broken("%s came back changed: %s", h.label(want.ID), diff)
	}
}

// difference names the first field in which the messages differ; times may differ in what is below a microsecond.
func difference(got, want transport.Message) string {
	for _, f := range [...]struct{ field, got, want string }{
		{"ID", got.ID, want.ID}, {"Name", got.Name, want.Name}, {"Key", got.Key, want.Key},
		{"CorrelationID", got.CorrelationID, want.CorrelationID}, {"CausationID", got.CausationID, want.CausationID},
		{"ContentType", got.ContentType, want.ContentType}, {"TargetGroup", got.TargetGroup, want.TargetGroup},
	} {
		if f.got != f.want {
			return fmt.Sprintf("%s is %q, want %q", f.field, f.got, f.want)
		}
	}
	switch {
	case max(got.Version, 1) != max(want.Version, 1):
		return fmt.Sprintf("Version is %d, want %d", got.Version, want.Version)
	case got.Attempts != want.Attempts:
		return fmt.Sprintf("Attempts is %d, want %d", got.Attempts, want.Attempts)
	case !sameTime(got.Time, want.Time):
		return fmt.Sprintf("Time is %v, want %v", got.Time, want.Time)
	case !sameTime(got.NotBefore, want.NotBefore):
		return fmt.Sprintf("NotBefore is %v, want %v", got.NotBefore, want.NotBefore)
	case len(want.Metadata) == 0 && got.Metadata != nil:
		return fmt.Sprintf("Metadata is %q, want nil", got.Metadata)
	case !maps.Equal(got.Metadata, want.Metadata):
		for _, k := range slices.Sorted(maps.Keys(want.Metadata)) {
			if v, ok := got.Metadata[k]; !ok || v != want.Metadata[k] {
				return fmt.Sprintf("Metadata[%q] is %q (present: %t), want %q", k, v, ok, want.Metadata[k])
			}
		}
		return fmt.Sprintf("Metadata is %q, want %q", got.Metadata, want.Metadata)
	case !bytes.Equal(got.Payload, want.Payload):
		return fmt.Sprintf("Payload is %d bytes %.60q, want %d bytes %.60q", len(got.Payload), got.Payload, len(want.Payload), want.Payload)
	}
	return ""
}

func sameTime(a, b time.Time) bool {
	return a.IsZero() == b.IsZero() && a.Sub(b).Abs() < time.Microsecond
}
