package outbox

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

const (
	// publishTimeout bounds one publication: a target that does not answer is tried again.
	publishTimeout = 30 * time.Second
	// firstPause and longestPause bound the pauses of a topic that the target does not take; they double.
	firstPause, longestPause = 50 * time.Millisecond, 5 * time.Second
	// firstHold and longestHold bound those of a message that was refused and cannot be put into quarantine.
	firstHold, longestHold = time.Second, time.Minute
)

// pump moves messages from the outbox to the target. Its subscription bounds how many are in it.
type pump struct {
	f     *Forwarder
	sub   transport.Subscription
	batch int  // of one publication: while one is marked, the next is under way
	delay bool // the target can take a message that says when it was due
	lanes map[string]*lane
	marks chan []transport.Settlement
}

func newPump(f *Forwarder, sub transport.Subscription) *pump {
	return &pump{f: f, sub: sub, batch: max(1, f.cfg.Batch/2), delay: f.target.Capabilities().Delay, lanes: map[string]*lane{},
		marks: make(chan []transport.Settlement, f.cfg.Batch)}
}

// run ends after soft, once what was begun is marked; with hard that is given up.
func (p *pump) run(soft, hard context.Context) {
	var lanes, marking sync.WaitGroup
	marking.Go(func() { p.mark(hard) })
	for soft.Err() == nil {
		got, err := p.sub.Receive(soft, p.batch)
		if err != nil {
			if soft.Err() == nil {
				p.f.box.cfg.Logger.Warn("outbox: the outbox cannot be read, trying again", "error", err)
				pause(soft, time.Second)
			}
			continue
		}
		for topic, items := range p.sortOut(got) {
			l := p.lanes[topic]
			if l == nil {
				l = &lane{p: p, topic: topic, more: make(chan struct{}, 1)}
				p.lanes[topic] = l
				lanes.Go(func() { l.run(soft, hard) })
			}
			l.add(items)
		}
	}
	lanes.Wait()
	close(p.marks)
	marking.Wait()
}

// item is a message on its way.
type item struct {
	tag      uint64
	attempt  int
	msg      transport.Message
	failures int
	until    time.Time // it is not tried before
	refused  bool      // by the target; those after it do not wait for it
}

// sortOut returns deliveries by the topics that they are for, in their order. They keep the time at which they were due,
// for who measures how late they are; by a clock that is behind it must not delay them again.
func (p *pump) sortOut(got []transport.Delivery) map[string][]*item {
	byTopic := map[string][]*item{}
	for i := range got {
		m, topic := unwrap(got[i].Message)
		if now := time.Now(); !p.delay {
			m.NotBefore = time.Time{}
		} else if m.NotBefore.After(now) {
			m.NotBefore = now
		}
		byTopic[topic] = append(byTopic[topic], &item{tag: got[i].Tag, attempt: got[i].Attempt, msg: m})
	}
	return byTopic
}

// mark has the outbox forget what the target has confirmed.
func (p *pump) mark(ctx context.Context) {
	for marks := range p.marks {
		for more := true; more; {
			select {
			case next, open := <-p.marks:
				marks, more = append(marks, next...), open
			default:
				more = false
			}
		}
		p.f.box.at("mark")
		for first := true; ; first = false {
			err := p.sub.Settle(ctx, marks)
			if err == nil || ctx.Err() != nil || errors.Is(err, transport.ErrClosed) {
				break
			}
			if first {
				p.f.box.cfg.Logger.Warn("outbox: forwarded messages cannot be marked, trying again", "error", err)
			}
			pause(ctx, 200*time.Millisecond)
		}
		p.f.box.at("marked")
	}
}

// pause waits for d, or until ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
