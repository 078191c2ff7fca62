package sqllog

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// appendTimeout bounds one transaction of appends. Callers leave earlier when their context ends.
const appendTimeout = 30 * time.Second

// Publish appends msgs. Concurrent calls share a commit: those that come while one is under way go together in the next.
func (l *Log) Publish(ctx context.Context, topic string, msgs []transport.Message) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(msgs) == 0 {
		if l.isClosed() {
			return transport.ErrClosed
		}
		return transport.CheckName("topic", topic)
	}
	req, failed, err := l.prepare(ctx, topic, msgs)
	if err != nil {
		return l.publishError(topic, err)
	}
	if req.size() > 0 {
		if err := l.submit(ctx, req); err != nil {
			return l.publishError(topic, err)
		}
	}
	if failed != nil {
		if len(msgs) == 1 {
			return l.publishError(topic, failed[0])
		}
		return l.publishError(topic, &transport.PublishError{Errs: failed})
	}
	return nil
}

func (l *Log) publishError(topic string, err error) error {
	if errors.Is(err, transport.ErrClosed) {
		return err
	}
	return l.errorf("publish %q: %w", topic, err)
}

// request is one call of Publish: rows of one topic.
type request struct {
	rows  Rows
	later []Later
	done  chan error
	ctx   context.Context //nolint:containedctx // it lives as long as the call
	err   error
}

func (r *request) size() int { return len(r.rows.UUID) + len(r.later) }

// prepare makes rows of the good messages, and errors of the others, nil if there are none.
func (l *Log) prepare(ctx context.Context, topic string, msgs []transport.Message) (*request, []error, error) {
	var failed []error
	if err := transport.CheckBatch(l.caps, topic, msgs); err != nil {
		var partial *transport.PublishError
		if !errors.As(err, &partial) {
			if len(msgs) > 1 || errors.Is(transport.CheckName("topic", topic), transport.ErrInvalid) {
				return nil, nil, err
			}
			return nil, nil, err
		}
		failed = partial.Errs
	}
	t, err := l.topic(ctx, topic)
	if err != nil {
		return nil, nil, err
	}
	req := &request{rows: Rows{Topic: t}, done: make(chan error, 1), ctx: ctx}
	now := time.Now().UnixMilli() + l.skew.Load()
	for i := range msgs {
		if failed != nil && failed[i] != nil {
			continue
		}
		m := &msgs[i]
		e, err := encode(m, t.JSON)
		if err != nil {
			if failed == nil {
				failed = make([]error, len(msgs))
			}
			failed[i] = err
			continue
		}
		due := dueAt(m.NotBefore)
		if m.TargetGroup == "" && due <= now {
			req.rows.add(e)
			continue
		}
		req.later = append(req.later, Later{Topic: topic, Group: m.TargetGroup, Due: due, Hash: keyHash(m),
			UUID: e.uuid, Metadata: e.metadata, Payload: e.payload})
	}
	return req, failed, nil
}

// dueAt rounds up: a message must not come early.
func dueAt(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Add(time.Millisecond - 1).UnixMilli()
}

// appender lets concurrent requests share transactions.
type appender struct {
	mu      sync.Mutex
	queue   []*request
	running int
	closed  bool
	idle    sync.WaitGroup
}

const (
	// maxBatch is how many messages share a transaction, unless one request has more.
	maxBatch = 4096
	// maxBatchBytes is how many bytes of payload do.
	maxBatchBytes = 8 << 20
)

func (l *Log) submit(ctx context.Context, req *request) error {
	a := &l.app
	a.mu.Lock()
	if a.closed {
		a.mu.Unlock()
		return transport.ErrClosed
	}
	a.queue = append(a.queue, req)
	if a.running == 0 {
		a.running++
		a.idle.Add(1)
		go l.appendAll()
	}
	a.mu.Unlock()
	select {
	case err := <-req.done:
		return err
	case <-ctx.Done():
	}
	a.mu.Lock()
	for i, r := range a.queue {
		if r == req { // not begun
			a.queue = append(a.queue[:i], a.queue[i+1:]...)
			a.mu.Unlock()
			return ctx.Err()
		}
	}
	a.mu.Unlock()
	select {
	case err := <-req.done:
		return err
	default:
		return fmt.Errorf("%w: %w", transport.ErrOutcomeUnknown, ctx.Err())
	}
}

// close refuses new requests and waits for those that are there.
func (a *appender) close() {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.idle.Wait()
}

// appendAll works until the queue is empty.
func (l *Log) appendAll() {
	a := &l.app
	defer a.idle.Done()
	for {
		a.mu.Lock()
		n, msgs, bytes := 0, 0, 0
		for n < len(a.queue) {
			r := a.queue[n]
			size := r.size()
			for _, p := range r.rows.Payload {
				bytes += len(p)
			}
			if n > 0 && (msgs+size > maxBatch || bytes > maxBatchBytes) {
				break
			}
			msgs += size
			n++
		}
		if n == 0 {
			a.running--
			a.mu.Unlock()
			return
		}
		batch := append([]*request(nil), a.queue[:n]...)
		a.queue = append(a.queue[:0], a.queue[n:]...)
		a.mu.Unlock()
		l.appendShared(batch)
	}
}

// appendShared writes requests in one transaction and, if the database refuses it, each in its own, so that only who
// caused the refusal sees it.
func (l *Log) appendShared(reqs []*request) {
	err := l.appendOnce(reqs)
	if err == nil || len(reqs) == 1 {
		l.finish(reqs, err)
		return
	}
	if c := l.d.Class(err); c != Refused && c != BadData {
		l.finish(reqs, err)
		return
	}
	for _, r := range reqs {
		l.finish([]*request{r}, l.appendOnce([]*request{r}))
	}
}

func (l *Log) appendOnce(reqs []*request) error {
	ctx, cancel := context.WithTimeout(l.ctx, appendTimeout)
	defer cancel()
	var b Batch
	if len(reqs) == 1 {
		if len(reqs[0].rows.UUID) > 0 {
			b.Rows = []*Rows{&reqs[0].rows}
		}
		b.Later = reqs[0].later
		return l.d.Append(ctx, &b)
	}
	byTopic := map[*Topic]*Rows{}
	for _, r := range reqs {
		b.Later = append(b.Later, r.later...)
		if len(r.rows.UUID) == 0 {
			continue
		}
		rows := byTopic[r.rows.Topic]
		if rows == nil {
			rows = &Rows{Topic: r.rows.Topic}
			byTopic[r.rows.Topic] = rows
			b.Rows = append(b.Rows, rows)
		}
		rows.UUID = append(rows.UUID, r.rows.UUID...)
		rows.Metadata = append(rows.Metadata, r.rows.Metadata...)
		rows.Payload = append(rows.Payload, r.rows.Payload...)
	}
	return l.d.Append(ctx, &b)
}

// finish answers the callers and wakes the consumers.
func (l *Log) finish(reqs []*request, err error) {
	if err != nil {
		switch l.d.Class(err) {
		case Unknown:
			err = fmt.Errorf("%w: %w", transport.ErrOutcomeUnknown, err)
		case BadData:
			err = fmt.Errorf("%w: %w", transport.ErrInvalid, err)
		}
	}
	for _, r := range reqs {
		if err == nil {
			l.announce(r)
		}
		r.done <- err
	}
}

func (l *Log) announce(r *request) {
	if len(r.rows.UUID) > 0 {
		l.wake(r.rows.Topic.Name)
	}
	for i := range r.later {
		if r.later[i].Group == "" {
			l.dueSoon(r.later[i].Due)
		} else {
			l.wake(r.rows.Topic.Name)
		}
	}
}
