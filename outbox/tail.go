package outbox

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/postbus/postbus/internal/pgtail"
	"github.com/postbus/postbus/internal/sqllog"
	"github.com/postbus/postbus/transport"
)

const (
	// tailLook is the pause between looks at the table, for what the write-ahead log has not told of.
	tailLook = 10 * time.Second
	// tailRetry is the pause before the slot is asked for again, while another process reads it or after an error.
	tailRetry = 500 * time.Millisecond
	// tailPage is how many rows are read from the table at once, and tailMost how many are known to one reading. More than may
	// be in hand, or a reading could bring nothing new.
	tailPage, tailMost = 500, 200_000
)

// tail is the subscription of a Forwarder to the write-ahead log. A row is deleted once it is forwarded, so that the table
// has the truth: what the log brings is forwarded at once, and what it does not bring (from before the slot, or while
// there was no room) is read from the table. The slot is the lease.
type tail struct {
	wal    *pgtail.Tail
	table  *tailTable
	settle func(context.Context) error // deletes what a Forwarder that does not tail has left
	max    int                         // rows in hand
	logger *slog.Logger

	stop   context.CancelFunc
	wg     sync.WaitGroup
	more   chan struct{} // Receive looks again
	look   chan struct{} // feed does
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	active bool
	behind bool       // the table is being read: rows of the log are passed over, for they are there
	missed bool       // one was, since the reading began
	looks  int        // readings so far
	until  pgtail.LSN // rows up to here may have been read from the table
	queue  []transport.Delivery
	have   map[sqllog.Pos]struct{} // received or to be received, and not deleted
	tags   map[uint64]sqllog.Pos
	tag    uint64
}

func newTail(wal *pgtail.Tail, table *tailTable, max int, logger *slog.Logger, settle func(context.Context) error) *tail {
	t := &tail{wal: wal, table: table, settle: settle, max: max, logger: logger, more: make(chan struct{}, 1), look: make(chan struct{}, 1),
		closed: make(chan struct{}), have: map[sqllog.Pos]struct{}{}, tags: map[uint64]sqllog.Pos{}}
	ctx, stop := context.WithCancel(context.Background())
	t.stop = stop
	t.wg.Go(func() { t.run(ctx) })
	return t
}

func (t *tail) run(ctx context.Context) {
	for ctx.Err() == nil {
		err := t.wal.Prepare(ctx)
		if err == nil {
			err = t.session(ctx)
		}
		if ctx.Err() == nil && !errors.Is(err, pgtail.ErrBusy) {
			t.logger.Warn("outbox: the write-ahead log cannot be read, trying again", "error", err)
		}
		pause(ctx, tailRetry)
	}
}

// session reads while it has the slot.
func (t *tail) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var feeding sync.WaitGroup
	defer func() {
		cancel()
		feeding.Wait()
		t.mu.Lock()
		defer t.mu.Unlock()
		t.active = false
		for _, d := range t.queue { // whoever has the slot next reads them from the table
			delete(t.have, t.tags[d.Tag])
			delete(t.tags, d.Tag)
		}
		t.queue = nil
	}()
	return t.wal.Run(ctx, func(context.Context) error {
		t.mu.Lock()
		t.active, t.behind = true, true
		t.mu.Unlock()
		feeding.Go(func() { t.feed(ctx) })
		return nil
	}, t.handle)
}

// feed reads the table at the beginning, when asked to, and now and then.
func (t *tail) feed(ctx context.Context) {
	for ctx.Err() == nil {
		if err := t.catchUp(ctx); err != nil && ctx.Err() == nil {
			t.logger.Warn("outbox: the outbox cannot be read, trying again", "error", err)
			pause(ctx, time.Second)
			continue
		}
		timer := time.NewTimer(tailLook)
		select {
		case <-t.look:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
}

// catchUp reads all that is in the table, until nothing was passed over meanwhile.
func (t *tail) catchUp(ctx context.Context) error {
	if err := t.settle(ctx); err != nil {
		return err
	}
	for {
		t.mu.Lock()
		t.behind, t.missed = true, false
		t.looks++
		t.mu.Unlock()
		// What commits while the pages are read is not in them, or a row could come before one that was committed earlier.
		all, err := t.table.all(ctx, tailMost)
		if err != nil {
			return err
		}
		rest := len(all) == tailMost
		for len(all) > 0 {
			room, err := t.room(ctx)
			if err != nil {
				return err
			}
			held := t.held()
			page := all[:min(room, tailPage, len(all))]
			all = all[len(page):]
			rows, err := t.table.at(ctx, page)
			if err != nil {
				return err
			}
			t.mu.Lock()
			t.add(rows, held)
			t.mu.Unlock()
		}
		until, err := t.wal.End(ctx)
		if err != nil {
			return err
		}
		t.mu.Lock()
		t.until = until
		done := !t.missed && !rest
		t.behind = !done
		t.mu.Unlock()
		if done {
			return nil
		}
	}
}

// room waits until there is some.
func (t *tail) room(ctx context.Context) (int, error) {
	for {
		t.mu.Lock()
		n := t.max - len(t.have)
		t.mu.Unlock()
		if n > 0 {
			return n, nil
		}
		select {
		case <-t.look:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// held returns what is in hand now. Rows that are not, and that a later look finds in the table, are not forwarded.
func (t *tail) held() map[sqllog.Pos]struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	held := make(map[sqllog.Pos]struct{}, len(t.have))
	for p := range t.have {
		held[p] = struct{}{}
	}
	return held
}

// add has rows received that are not held; t.mu is held.
func (t *tail) add(rows []tailRow, held map[sqllog.Pos]struct{}) {
	for i := range rows {
		if _, old := held[rows[i].pos]; old {
			continue
		}
		t.tag++
		t.tags[t.tag], t.have[rows[i].pos] = rows[i].pos, struct{}{}
		t.queue = append(t.queue, transport.Delivery{Message: rows[i].msg, Tag: t.tag, Attempt: 1})
	}
	poke(t.more)
}

// handle takes rows from the write-ahead log. It does not wait for room, so that the server need not keep its log: what
// finds none is in the table.
func (t *tail) handle(ctx context.Context, got []pgtail.Row) error {
	rows := make([]tailRow, len(got))
	doubtful := 0
	t.mu.Lock()
	pass := t.behind || len(t.have)+len(got) > t.max
	until, looks := t.until, t.looks
	t.mu.Unlock()
	if pass {
		return t.pass(ctx, got)
	}
	for i, r := range got {
		var err error
		if rows[i], err = t.table.decode(r.Text); err != nil {
			return err
		}
		if r.LSN <= until {
			doubtful = i + 1
		}
	}
	held := t.held()
	if doubtful > 0 {
		there, err := t.table.there(ctx, rows[:doubtful])
		if err != nil {
			return err
		}
		rows = append(there, rows[doubtful:]...)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.looks != looks { // the table was read in between, with these rows or without
		t.miss()
		return nil
	}
	t.add(rows, held)
	return nil
}

// pass leaves rows to a reading of the table that begins when it shows them.
func (t *tail) pass(ctx context.Context, got []pgtail.Row) error {
	txs := make([]string, len(got))
	for i, r := range got {
		txs[i] = string(r.Text("transaction_id"))
	}
	if err := t.table.await(ctx, slices.Compact(txs)); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.miss()
	return nil
}

// miss has the table read once more; t.mu is held.
func (t *tail) miss() {
	t.behind, t.missed = true, true
	poke(t.look)
}

// Receive implements transport.Subscription.
func (t *tail) Receive(ctx context.Context, max int) ([]transport.Delivery, error) {
	for {
		t.mu.Lock()
		n := min(max, len(t.queue))
		out := t.queue[:n:n]
		t.queue = t.queue[n:]
		t.mu.Unlock()
		if n > 0 {
			return out, nil
		}
		select {
		case <-t.more:
		case <-t.closed:
			return nil, transport.ErrClosed
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Settle deletes what was forwarded.
func (t *tail) Settle(ctx context.Context, settlements []transport.Settlement) error {
	var done []sqllog.Pos
	t.mu.Lock()
	for _, s := range settlements {
		if p, ok := t.tags[s.Tag]; ok && s.Outcome == transport.Ack {
			done = append(done, p)
		}
	}
	t.mu.Unlock()
	if err := t.table.delete(ctx, done); err != nil {
		return err
	}
	t.mu.Lock()
	for _, s := range settlements {
		delete(t.have, t.tags[s.Tag])
		delete(t.tags, s.Tag)
	}
	behind := t.behind
	t.mu.Unlock()
	if behind {
		poke(t.look)
	}
	return nil
}

// Close implements transport.Subscription.
func (t *tail) Close() error {
	t.once.Do(func() { close(t.closed) })
	t.stop()
	t.wg.Wait()
	return nil
}

func (t *tail) isActive() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.active
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
