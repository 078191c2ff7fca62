package sqllog

import (
	"context"
	"sync"
	"time"
)

// hub wakes the subscriptions of this process. A wake-up is a hint: who gets it looks.
type hub struct {
	mu      sync.Mutex
	waiting map[string]map[chan struct{}]struct{}
}

func (h *hub) init() { h.waiting = map[string]map[chan struct{}]struct{}{} }

func (h *hub) join(topic string) chan struct{} {
	c := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.waiting[topic] == nil {
		h.waiting[topic] = map[chan struct{}]struct{}{}
	}
	h.waiting[topic][c] = struct{}{}
	return c
}

func (h *hub) leave(topic string, c chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if delete(h.waiting[topic], c); len(h.waiting[topic]) == 0 {
		delete(h.waiting, topic)
	}
}

func (h *hub) wake(topic string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for c := range h.waiting[topic] {
		poke(c)
	}
}

func (h *hub) wakeAll() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, waiting := range h.waiting {
		for c := range waiting {
			poke(c)
		}
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it has yet to look
	}
}

// wake wakes the subscriptions to topic, here at once and elsewhere by a notice.
func (l *Log) wake(topic string) {
	l.hub.wake(topic)
	l.noticesMu.Lock()
	l.pending[topic] = struct{}{}
	l.noticesMu.Unlock()
	poke(l.notices)
}

// noticePause is the least time between two sendings of notices; what comes meanwhile goes together.
const noticePause = 10 * time.Millisecond

// sendNotices sends what wake collects. A lost notice costs the consumers elsewhere one pause between polls.
func (l *Log) sendNotices() {
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.notices:
		}
		l.noticesMu.Lock()
		texts := make([]string, 0, len(l.pending))
		for text := range l.pending {
			texts = append(texts, text)
		}
		clear(l.pending)
		l.noticesMu.Unlock()
		ctx, cancel := context.WithTimeout(l.ctx, ioTimeout)
		err := l.d.Notify(ctx, texts)
		cancel()
		if err != nil && l.ctx.Err() == nil {
			l.cfg.Logger.Debug("postbus: a notice was not sent", "driver", l.d.Name(), "error", err)
		}
		if !sleep(l.ctx, noticePause) {
			return
		}
	}
}

// listen hears the notices of other processes, and reconnects when the connection breaks.
func (l *Log) listen() {
	for l.ctx.Err() == nil {
		err := l.d.Listen(l.ctx, l.cfg.Watch, l.hub.wakeAll, l.hub.wake)
		if err == nil {
			return
		}
		if l.ctx.Err() == nil {
			l.cfg.Logger.Warn("postbus: notices are not heard, polling goes on", "driver", l.d.Name(), "error", err)
		}
		sleep(l.ctx, time.Second)
	}
}
