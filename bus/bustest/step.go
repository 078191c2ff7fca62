package bustest

import (
	"context"
	"fmt"
)

// step is one delivery of an adversary. Its fields are guarded by the broker's lock, but for what does not change.
type step struct {
	fault      point
	nth        int // call of Publish at which the process dies
	atMostOnce bool

	publishes int
	handler   context.Context // of the running handler
	goroutine string          // on which it runs
	done      bool            // handled and settled
	crashed   bool
}

// point is where the process dies.
type point uint8

const (
	nowhere point = iota
	beforeHandle
	beforePublish
	afterPublish
	beforeSettle
	afterSettle
)

// points are those that are drawn from; the one that finds most mistakes is in it twice.
var points = [...]point{beforeHandle, beforePublish, afterPublish, afterPublish, beforeSettle, afterSettle}

func (p point) String() string {
	return [...]string{
		"nowhere", "before the handler", "at Publish in the handler, nothing is out", "at Publish in the handler, the event is out",
		"after the handler, before it was settled", "after it was settled",
	}[p]
}

// at reports whether the process dies now. A step may be nil: that of nobody.
func (s *step) at(p point) bool {
	if s == nil {
		return false
	}
	switch p {
	case beforePublish:
		s.publishes++
		return s.fault == p && s.publishes == s.nth
	case afterPublish:
		return s.fault == p && s.publishes == s.nth
	case beforeSettle:
		if (s.fault == beforePublish || s.fault == afterPublish) && !s.atMostOnce {
			s.fault = p // the handler has not published so often
		}
	}
	return s.fault == p
}

// finish ends the step. What its handler has left behind cannot make the process die any more.
func (s *step) finish() { s.done, s.fault = true, nowhere }

// String names an item in the trace.
func (it *item) String() string {
	text := fmt.Sprintf("#%d %s", it.number, it.msg.Name)
	if it.msg.Key != "" {
		text += fmt.Sprintf(" key %q", it.msg.Key)
	}
	return text
}
