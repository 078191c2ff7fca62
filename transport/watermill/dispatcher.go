package watermill

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/postbus/postbus/internal/wire"
	"github.com/postbus/postbus/transport"
)

// dispatcher moves the deliveries of a subscription into a channel, and their outcomes back.
type dispatcher struct {
	sub   transport.Subscription
	cfg   SubscriberConfig
	out   chan *message.Message
	slots chan struct{} // a token for each message in flight
	log   *slog.Logger
}

// run returns when ctx has ended, or the transport is closed, and everything that was acknowledged before is settled.
func (d *dispatcher) run(ctx context.Context) {
	var waiting sync.WaitGroup
	defer waiting.Wait()
	for {
		free := d.acquire(ctx)
		if free == 0 {
			return
		}
		batch, err := d.sub.Receive(ctx, free)
		d.release(free - len(batch))
		switch {
		case errors.Is(err, transport.ErrClosed), ctx.Err() != nil && err != nil:
			return
		case err != nil:
			d.log.Warn("watermill: receive failed, trying again", "error", err)
			d.pause(ctx)
			continue
		}
		for _, delivery := range batch {
			msg, cancel := toWatermill(ctx, delivery)
			select {
			case d.out <- msg:
				waiting.Go(func() {
					defer d.release(1)
					d.await(ctx, msg, delivery.Tag)
					cancel()
				})
			case <-ctx.Done():
				cancel()
				return
			}
		}
	}
}

// acquire waits for a slot and takes all that are free. It returns 0 when ctx has ended.
func (d *dispatcher) acquire(ctx context.Context) (n int) {
	select {
	case d.slots <- struct{}{}:
		n++
	case <-ctx.Done():
		return 0
	}
	for n < cap(d.slots) {
		select {
		case d.slots <- struct{}{}:
			n++
		default:
			return n
		}
	}
	return n
}

func (d *dispatcher) release(n int) {
	for range n {
		<-d.slots
	}
}

// await settles a message as its consumer says. What is open when ctx ends is given back by the end of the subscription.
func (d *dispatcher) await(ctx context.Context, msg *message.Message, tag uint64) {
	outcome := transport.Ack
	select {
	case <-msg.Acked():
	case <-msg.Nacked():
		outcome = transport.Requeue
	case <-ctx.Done():
		select { // it may be both
		case <-msg.Acked():
		case <-msg.Nacked():
			outcome = transport.Requeue
		default:
			return
		}
	}
	for {
		settling, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		err := d.sub.Settle(settling, []transport.Settlement{{Tag: tag, Outcome: outcome}})
		cancel()
		if err == nil || errors.Is(err, transport.ErrClosed) || ctx.Err() != nil {
			return // what is not settled comes again
		}
		d.log.Warn("watermill: settle failed, trying again", "outcome", outcome, "id", msg.UUID, "error", err)
		d.pause(ctx)
	}
}

func (d *dispatcher) pause(ctx context.Context) {
	timer := time.NewTimer(d.cfg.RetryDelay)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

type attemptKey struct{}

// Attempt returns how many deliveries a message that a [Subscriber] delivered has had, this one included; 0 if ctx is not
// the context of such a message.
func Attempt(ctx context.Context) int {
	n, _ := ctx.Value(attemptKey{}).(int)
	return n
}

// toWatermill makes the message of a delivery. Its context ends with cancel, and belongs to the handling of a delivery,
// so that a Publish with it does not wait for room. What the delivery alone was told, its group and its time, is left out:
// who forwards the message means neither.
func toWatermill(ctx context.Context, d transport.Delivery) (*message.Message, context.CancelFunc) {
	m := *d.Message
	m.TargetGroup, m.NotBefore = "", time.Time{}
	uuid, metadata := wire.Encode(&m, 0)
	ctx = context.WithValue(context.WithValue(ctx, attemptKey{}, d.Attempt), transport.HandlerKey{}, true)
	ctx, cancel := context.WithCancel(ctx)
	msg := message.NewMessageWithContext(ctx, uuid, m.Payload)
	if metadata != nil {
		msg.Metadata = metadata
	}
	return msg, cancel
}
