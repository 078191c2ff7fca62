package transporttest

import (
	"context"
	"errors"
	"time"

	"github.com/postbus/postbus/transport"
)

// refSub is a subscription of the reference transport.
type refSub struct {
	r        *reference
	group    *group
	prefetch int
	lazy     bool
	closed   bool
	done     chan struct{}
}

func (s *refSub) Receive(ctx context.Context, limit int) ([]transport.Delivery, error) {
	for {
		out, changed, due, err := s.receiveNow(ctx, limit)
		if out != nil || err != nil || s.r.has("returns at once") {
			return out, err
		}
		var timer <-chan time.Time
		if !due.IsZero() {
			timer = time.After(time.Until(due))
		}
		done := ctx.Done()
		if s.r.has("ignores context") {
			done = nil
		}
		closed := s.done
		if s.r.has("does not wake at close") {
			closed = nil
		}
		select {
		case <-changed:
		case <-timer:
		case <-closed:
		case <-done:
		case <-s.r.ended:
			return nil, transport.ErrClosed
		}
	}
}

func (s *refSub) receiveNow(ctx context.Context, limit int) (out []transport.Delivery, changed chan struct{}, due time.Time, err error) {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.closed {
		if r.has("hides ErrClosed") {
			return nil, nil, due, errors.New("broken")
		}
		return nil, nil, due, transport.ErrClosed
	}
	err = ctx.Err()
	switch {
	case err != nil && r.has("hides the error of ctx"):
		return nil, nil, due, errors.New("broken")
	case err != nil && r.has("ignores context"), err != nil && r.has("loses on context"):
	case err != nil:
		return nil, nil, due, err
	}
	ready, due := r.eligible(s.group)
	held := 0
	for _, st := range s.group.states {
		if st.holder == s {
			held++
		}
	}
	if r.has("one at a time") {
		limit = min(limit, 1-held)
	}
	n := min(len(ready), limit, s.prefetch-held)
	if r.has("ignores max") {
		n = min(len(ready), s.prefetch-held)
	}
	for _, st := range ready[:max(n, 0)] {
		st.attempts++
		r.tag++
		st.holder, st.tag = s, r.tag
		if r.has("reuses tags") {
			st.tag = uint64(s.tagOf(st))
		}
		d := transport.Delivery{Message: &st.msg, Tag: st.tag, Attempt: st.attempts}
		if st.lazy != nil && (s.lazy || r.has("all are lazy")) && !r.has("none is lazy") {
			d.Message, d.Lazy = nil, st.lazy
		}
		r.spoilDelivery(st, &d)
		out = append(out, d)
	}
	if err != nil { // it loses on context
		return nil, nil, due, err
	}
	return out, r.changed, due, nil
}

// tagOf is a number that is free within the subscription now.
func (s *refSub) tagOf(mine *state) int {
	for n := 1; ; n++ {
		taken := false
		for _, st := range s.group.states {
			taken = taken || st != mine && st.holder == s && st.tag == uint64(n)
		}
		if !taken {
			return n
		}
	}
}

func (s *refSub) Settle(ctx context.Context, settlements []transport.Settlement) error {
	r := s.r
	r.mu.Lock()
	defer r.mu.Unlock()
	if s.closed && !r.has("late settlements count") {
		if r.has("settles after close") {
			return nil
		}
		return transport.ErrClosed
	}
	if len(settlements) == 0 && r.has("settle of nothing fails") {
		return errors.New("broken")
	}
	if err := ctx.Err(); err != nil {
		if r.has("cannot settle again") {
			for _, x := range settlements {
				if st := s.find(x.Tag); st != nil {
					st.tag = 0
				}
			}
		}
		return err
	}
	for i, x := range settlements {
		st := s.find(x.Tag)
		if st == nil {
			if r.has("unknown tags fail") {
				return errors.New("broken")
			}
			continue
		}
		if r.has("settles one of a batch") && i > 0 {
			continue
		}
		s.settle(st, x.Outcome)
	}
	r.wake()
	return nil
}

func (s *refSub) find(tag uint64) *state {
	for _, st := range s.group.states {
		holds := st.holder == s || st.holder != nil && (s.r.has("tags are global") || s.r.has("late settlements count"))
		if s.r.has("settles twice") {
			holds = true
		}
		if st.tag == tag && holds && tag != 0 {
			return st
		}
	}
	if s.r.has("late settlements count") && s.closed { // by the message
		for _, st := range s.group.states {
			if st.tag-tag <= 3 {
				return st
			}
		}
	}
	if s.r.has("tags are global") {
		for _, g := range s.r.groups {
			for _, st := range g.states {
				if st.tag == tag && st.holder != nil {
					return st
				}
			}
		}
	}
	return nil
}

func (s *refSub) settle(st *state, outcome transport.Outcome) {
	r := s.r
	if outcome == transport.Requeue && r.has("zero acknowledges") || r.has("requeue loses") {
		outcome = transport.Ack
	}
	st.holder = nil
	switch outcome {
	case transport.Ack:
		if r.has("acks in order only") && s.lowerHeld(st) {
			st.holder = s
			return
		}
		st.acked, st.ackedBy = true, s
		if r.has("acks ranges") {
			for _, other := range s.group.states {
				if other.holder == s && other.tag < st.tag {
					other.acked, other.holder = true, nil
				}
			}
		}
	case transport.Release:
		st.acked = false
		if !r.has("release counts") {
			st.attempts--
		}
		if r.has("released goes last") {
			r.late++
			st.late = r.late
		}
	default:
		st.acked = false
		s.requeue(st)
	}
}

func (s *refSub) lowerHeld(st *state) bool {
	for _, other := range s.group.states {
		if other.holder == s && other.tag < st.tag {
			return true
		}
	}
	return false
}

func (s *refSub) requeue(st *state) {
	r := s.r
	switch {
	case r.has("requeue does not count"):
		st.attempts--
	case r.has("requeued goes last"), r.has("requeued twice goes last") && st.attempts > 2:
		r.late++
		st.late = r.late
	case r.has("requeued come as requeued"):
		r.late++
		st.late = r.late - 1_000_000
	case r.has("requeue delays again") && !st.msg.NotBefore.IsZero():
		st.record = nil
		st.acked = true
	case r.has("requeue duplicates") && st.attempts == 1:
		double := *st.record
		r.topics[s.group.topic] = append(r.topics[s.group.topic], &double)
	case r.has("requeue marks the message"):
		st.msg.CausationID += "again"
	case r.has("lazy goes last") && st.lazy != nil:
		r.late++
		st.late = r.late
	case r.has("requeue changes"):
		st.msg.Metadata = nil
	}
}

// end closes the subscription; what it holds is settled with the outcome, unless it is kept from others for ever.
func (s *refSub) end(keep bool, outcome transport.Outcome) {
	if s.closed {
		return
	}
	s.closed = true
	close(s.done)
	r := s.r
	delete(r.subs, s)
	for _, st := range s.group.states {
		switch {
		case st.ackedBy == s && r.has("close forgets acks"):
			st.acked = false
		case st.holder != s || keep:
		case r.has("close acknowledges"):
			st.acked = true
		default:
			s.settle(st, outcome)
			r.spoilGivenBack(st)
		}
	}
	s.group.subs--
	if s.group.subs == 0 && r.has("groups end") {
		for key, g := range r.groups {
			if g == s.group {
				delete(r.groups, key)
			}
		}
	}
	if !r.has("close wakes nobody") && !r.has("does not wake at close") {
		r.wake()
	}
}

func (s *refSub) Close() error {
	s.r.mu.Lock()
	defer s.r.mu.Unlock()
	s.end(false, transport.Release)
	if s.r.has("close closes all") {
		for other := range s.r.subs {
			other.end(false, transport.Release)
		}
	}
	return nil
}
