package sqllog

import (
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

const (
	// maxBatch is how many messages share a transaction, unless one request has more.
	maxBatch = 4096
	// maxBatchBytes is how many bytes of payload do.
	maxBatchBytes = 8 << 20
)

// appendTimeout bounds one transaction of appends. Callers leave earlier when their context ends.
const appendTimeout = 30 * time.Second

// appender lets concurrent requests share transactions.
type appender struct {
	mu      sync.Mutex
	queue   []*request
	running int
	closed  bool
	idle    sync.WaitGroup
}

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
	last, took := 0, time.Duration(0)
	for {
		a.gather(last, took)
		a.mu.Lock()
		n, msgs, bytes := 0, 0, 0
		for n < len(a.queue) {
			r := a.queue[n]
			bytes += r.bytes
			if n > 0 && (msgs+r.size > maxBatch || bytes > maxBatchBytes) {
				break
			}
			msgs += r.size
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
		began := time.Now()
		l.appendShared(batch)
		last, took = len(batch), time.Since(began)
	}
}

// gather lets the callers that the last commit has answered come again, if there were several: taken at once, the next
// commit would carry only those who came during the last one, and commits of few and of many would alternate. It
// yields the processor, never sleeps, and waits for a quarter of what the last commit took at most; who is alone does
// not wait.
func (a *appender) gather(answered int, took time.Duration) {
	const yields = 2000 // for a clock that stands still, as in testing/synctest
	patience := min(took/4, 200*time.Microsecond)
	all, began := 0, time.Now()
	for i := range yields {
		a.mu.Lock()
		n := len(a.queue)
		a.mu.Unlock()
		if i == 0 {
			all = n + answered
		}
		if answered == 0 || all <= 1 || n >= all || time.Since(began) >= patience {
			return
		}
		runtime.Gosched()
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
	return l.d.Append(ctx, merge(reqs))
}

// merge makes one batch; requests of rows of one topic alone, as nearly all are, go together.
func merge(reqs []*request) *Batch {
	if len(reqs) == 1 {
		return &Batch{Steps: reqs[0].steps}
	}
	b := &Batch{}
	byTopic := map[*Topic]*Step{}
	for _, r := range reqs {
		if len(r.steps) > 1 || len(r.steps[0].Later) > 0 {
			b.Steps = append(b.Steps, r.steps...)
			continue
		}
		rows, all := &r.steps[0].Rows, byTopic[r.topic]
		if all == nil {
			all = &Step{Rows: Rows{Topic: r.topic}}
			byTopic[r.topic] = all
			b.Steps = append(b.Steps, all)
		}
		all.UUID = append(all.UUID, rows.UUID...)
		all.Metadata = append(all.Metadata, rows.Metadata...)
		all.Payload = append(all.Payload, rows.Payload...)
	}
	return b
}

// finish answers the callers and wakes the consumers.
func (l *Log) finish(reqs []*request, err error) {
	if err != nil && l.d.Class(err) == Unknown {
		err = fmt.Errorf("%w: %w", transport.ErrOutcomeUnknown, err)
	}
	err = l.typed(err)
	for _, r := range reqs {
		if err == nil {
			l.announce(r)
		}
		r.done <- err
	}
}

// typed has err match transport.ErrInvalid if the database refused what was to be written.
func (l *Log) typed(err error) error {
	if err != nil && l.d.Class(err) == BadData {
		return fmt.Errorf("%w: %w", transport.ErrInvalid, err)
	}
	return err
}

func (l *Log) announce(r *request) {
	l.duesSoon(r)
	l.wake(r.topic.Name)
}

func (l *Log) duesSoon(r *request) {
	for _, s := range r.steps {
		for i := range s.Later {
			if s.Later[i].Group == "" {
				l.dueSoon(s.Later[i].Due)
			}
		}
	}
}

// AppendAlone is Append by AppendTx, in a transaction of its own.
func AppendAlone(ctx context.Context, db *sql.DB, d Dialect, b *Batch) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for _, s := range b.Steps {
		if err := d.AppendTx(ctx, tx, s); err != nil {
			return err
		}
	}
	return tx.Commit()
}
