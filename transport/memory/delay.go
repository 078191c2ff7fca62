package memory

import (
	"container/heap"
	"time"

	"github.com/postbus/postbus/transport"
)

// delayedMessage is not due yet.
type delayedMessage struct {
	msg *transport.Message
	n   uint64 // in the order of publishing
}

// delay keeps m until it is due.
func (q *queue) delay(m *transport.Message) {
	q.delays++
	heap.Push(&q.delayed, delayedMessage{m, q.delays})
	q.setTimer()
}

// setTimer arranges for the earliest delayed message.
func (q *queue) setTimer() {
	if len(q.delayed) == 0 {
		return
	}
	wait := max(0, time.Until(q.delayed[0].msg.NotBefore))
	if q.timer == nil {
		q.timer = time.AfterFunc(wait, q.ripen)
	} else {
		q.timer.Reset(wait)
	}
}

// ripen moves the delayed messages that are due into the queue.
func (q *queue) ripen() {
	q.lock()
	if q.closed {
		q.mu.Unlock()
		return
	}
	now := time.Now()
	for len(q.delayed) > 0 && !q.delayed[0].msg.NotBefore.After(now) {
		due := heap.Pop(&q.delayed).(delayedMessage)
		q.append(due.msg)
	}
	if len(q.delayed) == 0 {
		q.delayed = nil // a burst is over: give its memory back
	}
	q.setTimer()
	wake := q.toWake()
	q.mu.Unlock()
	wake.wakeUp()
}

// timeHeap orders by the time at which messages are due, then by the order of publishing.
type timeHeap []delayedMessage

func (h timeHeap) Len() int { return len(h) }
func (h timeHeap) Less(i, j int) bool {
	if a, b := h[i].msg.NotBefore, h[j].msg.NotBefore; !a.Equal(b) {
		return a.Before(b)
	}
	return h[i].n < h[j].n
}
func (h timeHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timeHeap) Push(v any)   { *h = append(*h, v.(delayedMessage)) }
func (h *timeHeap) Pop() any {
	last := len(*h) - 1
	v := (*h)[last]
	(*h)[last] = delayedMessage{}
	*h = (*h)[:last]
	return v
}
