package outbox

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// lane publishes to one topic of the target: one that is slow or fails does not hold up the others, until all that may be
// on its way is in it.
type lane struct {
	p     *pump
	topic string
	more  chan struct{}

	mu    sync.Mutex
	added []*item

	items    []*item   // in their order
	alone    int       // so many are published one at a time: they were refused together
	failures int       // of the topic as a whole, in a row
	until    time.Time // it is not tried before
	loggedAt time.Time
}

func (l *lane) add(items []*item) {
	l.mu.Lock()
	l.added = append(l.added, items...)
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *lane) run(soft, hard context.Context) {
	for soft.Err() == nil {
		l.mu.Lock()
		l.items = append(l.items, l.added...)
		l.added = nil
		l.mu.Unlock()
		now := time.Now()
		if batch, next := l.due(now); len(batch) > 0 {
			l.publish(hard, batch)
		} else if next.IsZero() {
			select {
			case <-soft.Done():
			case <-l.more:
			}
		} else {
			timer := time.NewTimer(next.Sub(now))
			select {
			case <-soft.Done():
			case <-l.more:
			case <-timer.C:
			}
			timer.Stop()
		}
	}
}

// due returns what is to be published now, or when there will be something; the zero time if nothing waits. A message that
// failed alone holds back those of its key, also while it is tried again: it can fail once more, and they not.
func (l *lane) due(now time.Time) (batch []*item, next time.Time) {
	if now.Before(l.until) {
		return nil, l.until
	}
	most := l.p.batch
	if l.alone > 0 {
		most = 1
	}
	waiting := map[string]bool{}
	for _, it := range l.items {
		if len(batch) == most {
			break
		}
		switch {
		case it.msg.Key != "" && waiting[it.msg.Key]:
		case now.Before(it.until):
			if next.IsZero() || it.until.Before(next) {
				next = it.until
			}
			if !it.refused {
				waiting[it.msg.Key] = true
			}
		default:
			batch = append(batch, it)
			if it.failures > 0 && !it.refused {
				waiting[it.msg.Key] = true
			}
		}
	}
	return batch, next
}

// publish has the target take a batch, and files what became of each message.
func (l *lane) publish(ctx context.Context, batch []*item) {
	box := l.p.f.box
	msgs := make([]transport.Message, len(batch))
	for i, it := range batch {
		msgs[i] = it.msg
	}
	box.at("publish")
	err := l.send(ctx, msgs)
	box.at("confirmed")
	if ctx.Err() != nil && err != nil {
		return // given up
	}
	var partial *transport.PublishError
	each := errors.As(err, &partial) && len(partial.Errs) == len(batch)
	if err != nil && !each && !refusal(err) {
		l.failed(err)
		return
	}
	if err != nil && !each && len(batch) > 1 { // because of some of them, perhaps
		l.alone = len(batch)
		return
	}
	l.alone = max(0, l.alone-1)
	l.failures = 0
	var marks []transport.Settlement
	var failed error
	held := 0
	for i, it := range batch {
		cause := err
		if it.refused {
			it.refused = false
			held--
		}
		if each {
			cause = partial.Errs[i]
		}
		switch {
		case cause == nil:
		case !refusal(cause):
			failed = cause
			it.failures++
			it.until = time.Now().Add(backoff(it.failures, firstPause, longestPause))
			continue
		case !l.setAside(ctx, it, cause):
			held++
			it.failures++
			it.refused, it.until = true, time.Now().Add(backoff(it.failures, firstHold, longestHold))
			continue
		}
		it.tag, marks = 0, append(marks, transport.Settlement{Tag: it.tag, Outcome: transport.Ack})
	}
	l.items = slices.DeleteFunc(l.items, func(it *item) bool { return it.tag == 0 })
	l.p.f.hold(held)
	l.note(failed)
	if len(marks) > 0 {
		l.p.marks <- marks
	}
}

// errForeign is why a message without a topic is refused.
var errForeign = bus.Permanent(errors.New("outbox: the message was not written by a Box, and is for no topic"))

func (l *lane) send(ctx context.Context, msgs []transport.Message) error {
	if l.topic == "" {
		return errForeign
	}
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	return l.p.f.target.Publish(ctx, l.topic, msgs)
}

// refusal reports whether publishing once more would not help.
func refusal(err error) bool {
	return bus.IsPermanent(err) || errors.Is(err, transport.ErrTooLarge) || errors.Is(err, transport.ErrInvalid) ||
		errors.Is(err, transport.ErrUnsupported)
}

// failed has the topic wait.
func (l *lane) failed(err error) {
	l.failures++
	l.until = time.Now().Add(backoff(l.failures, firstPause, longestPause))
	l.note(err)
}

// backoff is the pause after so many failures in a row.
func backoff(failures int, first, longest time.Duration) time.Duration {
	return min(first<<min(failures-1, 20), longest)
}

// logEvery is the least time between two log lines about one topic.
const logEvery = time.Minute

// note has operators see why messages wait; nil if they do not.
func (l *lane) note(err error) {
	f := l.p.f
	if err == nil {
		f.settled(l.topic)
		return
	}
	f.failing(l.topic, err)
	if time.Since(l.loggedAt) >= logEvery {
		l.loggedAt = time.Now()
		f.box.cfg.Logger.Warn("outbox: the target does not take messages, they wait", "topic", l.topic, "error", err)
	}
}

// setAside puts a message that the target refused into quarantine; it reports whether it is there.
func (l *lane) setAside(ctx context.Context, it *item, cause error) bool {
	f := l.p.f
	log := f.box.cfg.Logger.With("topic", l.topic, "id", it.msg.ID, "name", it.msg.Name, "cause", cause)
	if f.cfg.Quarantine == nil {
		if it.failures == 0 {
			log.Error("outbox: the target refuses a message, which stays in the outbox: ForwarderConfig.Quarantine is not set")
		}
		return false
	}
	if err := l.put(ctx, it, cause); err != nil {
		log.Error("outbox: the target refuses a message, and it cannot be put into quarantine, trying again", "error", err)
		return false
	}
	log.Error("outbox: the target refuses a message, which was put into quarantine")
	return true
}

func (l *lane) put(ctx context.Context, it *item, cause error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the quarantine panicked: %v\n%s", p, debug.Stack())
		}
	}()
	f := l.p.f
	return f.cfg.Quarantine.Put(ctx, bus.NewDelivery(&it.msg, l.topic, f.box.cfg.Name, it.attempt), cause)
}
