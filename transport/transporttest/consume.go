package transporttest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

func ackAll(transport.Delivery) transport.Outcome { return transport.Ack }

// consumers lets each subscription settle what comes as decide says, which is called by several goroutines. What was
// acknowledged comes through the channel. The check must call stop, which ends the consumers.
func (h *harness) consumers(decide func(transport.Delivery) transport.Outcome, subs ...transport.Subscription) (acked <-chan transport.Delivery, stop func()) {
	ctx, cancel := context.WithCancel(h.Context())
	h.Cleanup(cancel)
	out := make(chan transport.Delivery, 10_000)
	ended := make(chan error, len(subs))
	for _, sub := range subs {
		go func() {
			ended <- settleEach(ctx, sub, func(d transport.Delivery) transport.Outcome {
				outcome := decide(d)
				if outcome == transport.Ack {
					out <- d
				}
				return outcome
			})
		}()
	}
	return out, func() {
		h.Helper()
		cancel()
		for range subs {
			if err := h.wait("Receive, although its context was cancelled,", ended); !errors.Is(err, context.Canceled) {
				h.broken("a consumer ended with %v", err)
			}
		}
	}
}

// settleEach settles what comes, each by its own goroutine, until Receive or Settle fails. It may be called by any
// goroutine.
func settleEach(ctx context.Context, sub transport.Subscription, decide func(transport.Delivery) transport.Outcome) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	failed := make(chan error, 1)
	for {
		ds, err := sub.Receive(ctx, 10)
		if err != nil {
			return err
		}
		for _, d := range ds {
			outcome := decide(d)
			wg.Go(func() {
				err := sub.Settle(context.WithoutCancel(ctx), []transport.Settlement{{Tag: d.Tag, Outcome: outcome}})
				if err != nil {
					select {
					case failed <- err:
					default:
					}
				}
			})
		}
		select {
		case err := <-failed:
			return err
		default:
		}
	}
}

// collect takes one delivery of each message from a channel, in any order, each within Config.Timeout of the one before, and
// looks for further ones in a quiet window.
func (h *harness) collect(from <-chan transport.Delivery, want []transport.Message) {
	h.Helper()
	window := time.NewTimer(h.cfg.Timeout)
	defer window.Stop()
	missing := map[string]bool{}
	for _, m := range want {
		missing[m.ID] = true
	}
	for {
		select {
		case d := <-from:
			if !missing[d.ID] {
				h.broken("%s came again after it was acknowledged, or was not expected", h.label(d.ID))
			}
			if delete(missing, d.ID); len(missing) > 0 {
				window.Reset(h.cfg.Timeout)
			} else {
				window.Reset(h.cfg.Quiet)
			}
		case <-window.C:
			if len(missing) > 0 {
				h.broken("%d of %d messages have not come", len(missing), len(want))
			}
			return
		}
	}
}

// wait takes the result of a goroutine of the check.
func (h *harness) wait(what string, from <-chan error) error {
	h.Helper()
	deadline := time.NewTimer(h.cfg.Timeout)
	defer deadline.Stop()
	select {
	case err := <-from:
		return err
	case <-deadline.C:
		h.broken("%s has not returned after %s", what, h.cfg.Timeout)
		return nil
	}
}
