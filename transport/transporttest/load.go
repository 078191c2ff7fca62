package transporttest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postbus/postbus/transport"
)

var loadChecks = []check{
	{"load/publishers", "Publish may be called concurrently: every message comes once, those of one publisher in its order.", checkPublishers},
	{"load/large batch", "a batch may hold thousands of messages.", checkLargeBatch},
	{"load/many in and out", "messages are published, received, settled and requeued at once, and none is lost or handled twice.", checkInAndOut},
	{"load/coming and going", "subscriptions may begin and end at any time: what was not acknowledged comes again, what was does not.", checkComingAndGoing},
}

func checkPublishers(h *harness) {
	const publishers, each = 8, 30
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := make([][]transport.Message, publishers)
	failed := make(chan error, publishers)
	for p := range publishers {
		msgs[p] = h.messages(each, fmt.Sprint("publisher ", p))
		go func() {
			for i := 0; i < each; i += 3 {
				if err := h.tr.Publish(h.Context(), topic, msgs[p][i:i+3]); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
	}
	got := map[string][]transport.Delivery{}
	for n := 0; n < publishers*each; {
		ds := h.receive(sub, 1)
		h.ack(sub, ds...)
		n += len(ds)
		for _, d := range ds {
			got[d.Key] = append(got[d.Key], d)
		}
	}
	for range publishers {
		if err := h.wait("Publish", failed); err != nil {
			h.broken("Publish: %v", err)
		}
	}
	for p := range publishers {
		h.compare(got[fmt.Sprint("publisher ", p)], msgs[p])
	}
	h.quiet(sub, "all has come")
}

func checkLargeBatch(h *harness) {
	topic, group := h.name("topic"), h.name("group")
	sub := h.join(h.tr, topic, group)
	msgs := h.keyed(3000, 11)
	published := make(chan error, 1)
	go func() { published <- h.tr.Publish(h.Context(), topic, msgs) }()
	h.drain(sub, msgs...)
	if err := h.wait("Publish", published); err != nil {
		h.broken("Publish: %v", err)
	}
	h.quiet(sub, "all has come")
}

// checkInAndOut runs publishers and two consumers at once; the consumers give back every fifth delivery.
func checkInAndOut(h *harness) {
	const publishers, each = 4, 60
	topic, group := h.name("topic"), h.name("group")
	var msgs []transport.Message
	failed := make(chan error, publishers)
	subs := []transport.Subscription{h.join(h.tr, topic, group), h.join(h.tr, topic, group)}
	for p := range publishers {
		own := h.keyed(each, 3)
		msgs = append(msgs, own...)
		go func() {
			for i := range own {
				if err := h.tr.Publish(h.Context(), topic, own[i:i+1]); err != nil {
					failed <- fmt.Errorf("publisher %d: %w", p, err)
					return
				}
			}
			failed <- nil
		}()
	}
	var n atomic.Uint64
	acked, stop := h.consumers(func(d transport.Delivery) transport.Outcome {
		if n.Add(1)%5 == 0 && d.Attempt < 4 {
			return transport.Requeue
		}
		return transport.Ack
	}, subs...)
	h.collect(acked, msgs)
	for range publishers {
		if err := h.wait("Publish", failed); err != nil {
			h.broken("Publish: %v", err)
		}
	}
	stop()
	for _, sub := range subs {
		h.quiet(sub, "all was acknowledged")
	}
}

// checkComingAndGoing lets subscriptions of one group begin, acknowledge some deliveries and end, while messages are
// published. Whatever was acknowledged must not come again, and all must be acknowledged in the end.
func checkComingAndGoing(h *harness) {
	h.need(!h.cfg.Ephemeral, "what is unsettled ends with the last subscription")
	topic, group := h.name("topic"), h.name("group")
	h.closeSub(h.join(h.tr, topic, group))
	msgs := h.messages(120, "k")
	published := make(chan error, 1)
	go func() {
		for i := 0; i < len(msgs); i += 4 {
			if err := h.tr.Publish(h.Context(), topic, msgs[i:i+4]); err != nil {
				published <- err
				return
			}
		}
		published <- nil
	}()
	done := newLedger(len(msgs))
	ended := make(chan error, 4)
	for range cap(ended) {
		go func() { ended <- comeAndGo(h, topic, group, done) }()
	}
	for n := 0; n < cap(ended); {
		before := done.count()
		select {
		case err := <-ended:
			if n++; err != nil {
				h.broken("%v", err)
			}
		case <-time.After(h.cfg.Timeout):
			if n := done.count(); n == before {
				h.broken("after %s, %d of %d messages have been acknowledged, and no further one", h.cfg.Timeout, n, done.want)
			}
		}
	}
	if err := h.wait("Publish", published); err != nil {
		h.broken("Publish: %v", err)
	}
	for _, m := range msgs {
		if !done.acked[m.ID] {
			h.broken("%s was never delivered so that it could be acknowledged", h.label(m.ID))
		}
	}
	h.quiet(h.join(h.tr, topic, group), "all was acknowledged")
}

// ledger notes what has been acknowledged.
type ledger struct {
	mu    sync.Mutex
	acked map[string]bool
	want  int
}

func newLedger(want int) *ledger { return &ledger{acked: map[string]bool{}, want: want} }

func (l *ledger) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// comeAndGo ends when all is acknowledged, or the check has ended.
func comeAndGo(h *harness, topic, group string, done *ledger) error {
	wait := h.cfg.Quiet
	for done.count() < done.want {
		came, err := comeOnce(h, topic, group, wait, done)
		if err != nil {
			return err
		}
		if came {
			wait = h.cfg.Quiet
		} else { // perhaps it takes longer until anything can come at all
			wait = min(2*wait, 16*h.cfg.Quiet)
		}
	}
	return nil
}

// comeOnce subscribes, acknowledges two of each three deliveries that come, and closes with the others unsettled. It reports
// whether any came.
func comeOnce(h *harness, topic, group string, wait time.Duration, done *ledger) (came bool, err error) {
	sub, err := h.tr.Subscribe(h.Context(), transport.SubscribeConfig{Topic: topic, Group: group, Prefetch: 12})
	if err != nil {
		return false, fmt.Errorf("in Subscribe: %w", err)
	}
	defer func() {
		if closed := sub.Close(); err == nil && closed != nil {
			err = fmt.Errorf("in Subscription.Close: %w", closed)
		}
	}()
	ctx, cancel := context.WithTimeout(h.Context(), wait)
	defer cancel()
	ds, err := sub.Receive(ctx, 12)
	if errors.Is(err, context.DeadlineExceeded) {
		return false, nil // the others have it all
	}
	if err != nil {
		return false, fmt.Errorf("in Receive: %w", err)
	}
	for i, d := range ds {
		done.mu.Lock()
		again := done.acked[d.ID]
		done.mu.Unlock()
		if again {
			return true, fmt.Errorf("%s was acknowledged, and came again", h.label(d.ID))
		}
		if i%3 == 2 {
			continue
		}
		if err := sub.Settle(h.Context(), []transport.Settlement{{Tag: d.Tag, Outcome: transport.Ack}}); err != nil {
			return true, fmt.Errorf("in Settle: %w", err)
		}
		done.mu.Lock()
		done.acked[d.ID] = true
		done.mu.Unlock()
	}
	return true, nil
}
