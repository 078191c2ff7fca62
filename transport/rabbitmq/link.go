package rabbitmq

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// Pauses between attempts to connect.
const (
	firstPause = 50 * time.Millisecond
	lastPause  = 2 * time.Second
)

// backoff returns the pause after n failures in a row, with jitter: half of it is random, so that the clients of a broker
// that comes back do not come at once.
func (c *Config) backoff(n int) time.Duration {
	d := lastPause
	if n < 16 {
		d = min(lastPause, c.firstPause<<n)
	}
	return d/2 + rand.N(d/2+1)
}

// link keeps one connection up, in a goroutine of its own.
type link struct {
	role string
	cfg  *Config
	dial func(ctx context.Context, onBlocked func(string)) (*connection, error)
	stop context.CancelFunc
	over chan struct{} // closed when run has returned

	mu      sync.Mutex
	current *connection
	changed chan struct{} // closed at each change of current
	closed  bool
	status  LinkStatus
}

// newLink connects and keeps the connection up until close.
func newLink(ctx context.Context, role string, cfg *Config, dial func(context.Context, func(string)) (*connection, error)) (*link, error) {
	l := &link{
		role: role, cfg: cfg, dial: dial, over: make(chan struct{}), changed: make(chan struct{}),
		status: LinkStatus{State: Down, Since: time.Now()},
	}
	first, err := dial(ctx, l.onBlocked)
	if err != nil {
		return nil, err
	}
	l.set(first, nil)
	life, stop := context.WithCancel(context.Background())
	l.stop = stop
	go l.run(life, first)
	return l, nil
}

func (l *link) run(life context.Context, c *connection) {
	defer close(l.over)
	for {
		select {
		case <-c.done:
		case <-life.Done():
			l.set(nil, transport.ErrClosed)
			c.shut()
			return
		}
		l.set(nil, c.reason())
		c.shut()
		for failures := 0; ; failures++ {
			// Even the first attempt waits a little: what cut this connection has cut others as well.
			if !sleep(life, l.cfg.backoff(failures)) {
				l.set(nil, transport.ErrClosed)
				return
			}
			next, err := l.dial(life, l.onBlocked)
			if err == nil {
				c = next
				break
			}
			l.set(nil, err)
		}
		l.set(c, nil)
	}
}

// sleep reports whether it slept for d; ctx ended otherwise.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// set records a change of state, wakes who waits, and logs when it is news.
func (l *link) set(c *connection, err error) {
	l.mu.Lock()
	was := l.status.State
	l.current = c
	l.status.Err = err
	if c != nil {
		l.status.State, l.status.Blocked = Up, ""
		l.status.Connects++
	} else {
		l.status.State, l.status.Blocked = Down, ""
	}
	if was != l.status.State {
		l.status.Since = time.Now()
	}
	if err == transport.ErrClosed {
		l.closed = true
	}
	close(l.changed)
	l.changed = make(chan struct{})
	closed, now, connects := l.closed, l.status.State, l.status.Connects
	l.mu.Unlock()
	if closed || was == now || connects == 1 && now == Up {
		return
	}
	if now == Up {
		l.cfg.Logger.Info("rabbitmq: connection is up again", slog.String("for", l.role))
	} else {
		l.cfg.Logger.Warn("rabbitmq: connection lost", slog.String("for", l.role), slog.Any("error", err))
	}
}

func (l *link) onBlocked(reason string) {
	l.mu.Lock()
	was := l.status.Blocked
	l.status.Blocked = reason
	l.mu.Unlock()
	switch {
	case reason != "" && was == "":
		l.cfg.Logger.Warn("rabbitmq: the broker holds publishers up", slog.String("for", l.role), slog.String("reason", reason))
	case reason == "" && was != "":
		l.cfg.Logger.Info("rabbitmq: the broker takes messages again", slog.String("for", l.role))
	}
}

// get returns the connection that is up. It waits for one until ctx ends, at most for Config.ConnectTimeout.
func (l *link) get(ctx context.Context) (*connection, error) {
	return l.getWithin(ctx, l.cfg.ConnectTimeout)
}

func (l *link) getWithin(ctx context.Context, wait time.Duration) (*connection, error) {
	var timeout <-chan time.Time
	for {
		l.mu.Lock()
		current, changed, closed, last := l.current, l.changed, l.closed, l.status.Err
		l.mu.Unlock()
		if closed {
			return nil, transport.ErrClosed
		}
		if current != nil {
			select {
			case <-current.done: // run has yet to notice
			default:
				return current, nil
			}
		}
		if timeout == nil {
			timer := time.NewTimer(wait)
			defer timer.Stop()
			timeout = timer.C
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, down(ctx.Err(), last)
		case <-timeout:
			return nil, down(fmt.Errorf("not connected for %v", wait), last)
		}
	}
}

// down adds why the connection is down.
func down(err, last error) error {
	if last == nil {
		return err
	}
	return fmt.Errorf("%w; the connection is down: %w", err, last)
}

func (l *link) close() {
	l.stop()
	<-l.over
}

func (l *link) snapshot() LinkStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status
}
