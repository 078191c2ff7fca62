package sqllog

import (
	"context"
	"database/sql"
	"sort"
	"time"

	"github.com/postbus/postbus/transport"
)

const (
	// readBatch is how many rows are read at once, at least.
	readBatch = 1000
	// firstPoll is the pause after a look that found nothing, if there had been a reason to look; it doubles.
	firstPoll = time.Millisecond
	// ioTimeout bounds one statement.
	ioTimeout = 15 * time.Second
	// closeTimeout bounds giving back a lease; without it, the lease runs out.
	closeTimeout = 3 * time.Second
)

// consumer consumes one partition while it holds the lease, and stands by otherwise. Its goroutine does all writes.
type consumer struct {
	s        *Subscription
	part     int
	consumer string // its name in the table of offsets
	owner    string
	kick     chan struct{}
	fetched  chan fetched

	// Guarded by s.mu.
	w       *window // nil unless the lease is held
	lastTag uint64
	dirty   uint64 // settlements so far
	saved   uint64 // those of them that the database has
	waiters []waiter
}

type waiter struct {
	upTo uint64
	done chan error
}

func newConsumer(s *Subscription, part int) *consumer {
	return &consumer{s: s, part: part, consumer: consumerName(s.group, part, s.l.cfg.Partitions), owner: s.owner,
		kick: make(chan struct{}, 1), fetched: make(chan fetched, 1)}
}

func (c *consumer) run() {
	woken := c.s.l.hub.join(c.s.t.Name)
	defer c.s.l.hub.leave(c.s.t.Name, woken)
	standby := min(time.Second, c.s.l.cfg.Lease/4)
	for c.s.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(c.s.ctx, ioTimeout)
		le, err := c.acquire(ctx)
		if err == nil && le != nil {
			var w *window
			if w, err = c.load(ctx, le); err == nil {
				cancel()
				c.consume(le.token, w, woken)
				continue
			}
		}
		cancel()
		if err != nil && c.s.ctx.Err() == nil {
			c.report(err)
		}
		select {
		case <-c.s.ctx.Done():
		case <-woken:
			sleep(c.s.ctx, 10*time.Millisecond)
		case <-time.After(standby):
		}
	}
}

// report tells the caller of Receive.
func (c *consumer) report(err error) {
	c.s.mu.Lock()
	c.s.trouble = c.s.l.errorf("receive %q of %q: %w", c.s.group, c.s.t.Name, err)
	c.s.mu.Unlock()
	poke(c.s.wake)
}

// load makes the window of a consumer that has just got the lease: what its predecessor left unsettled comes first, and
// what was in flight when it died comes alone.
func (c *consumer) load(ctx context.Context, le *lease) (*window, error) {
	l, s := c.s.l, &le.state
	c.s.mu.Lock()
	w := newWindow(c.s.prefetch, s, c.lastTag)
	c.s.mu.Unlock()
	at := make([]Pos, len(s.pending))
	for i, p := range s.pending {
		at[i] = p.pos
	}
	rows, err := l.d.ReadAt(ctx, c.s.t, at)
	if err != nil {
		return nil, err
	}
	prev := s.prefix
	for i := range rows {
		r := &rows[i]
		n := sort.Search(len(s.pending), func(i int) bool { return !s.pending[i].pos.before(r.Pos) })
		p := s.pending[n]
		e := &entry{pos: r.Pos, prev: prev, msg: decode(r), attempts: p.attempts, known: true, suspect: p.inFlight}
		if p.inFlight {
			e.attempts++
		}
		w.add(e)
		prev = r.Pos
	}
	died := s.frontier
	for w.readPos.before(died) {
		rows, err := l.d.Read(ctx, c.s.t, w.readPos, c.batch())
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			break // they were removed
		}
		c.take(w, c.decodeAll(rows), died)
	}
	return w, nil
}

func (c *consumer) batch() int { return min(max(readBatch, c.s.prefetch), 5000) }

// take adds what was read; messages up to died were in flight when the predecessor died.
func (c *consumer) take(w *window, rows []read, died Pos) {
	prev := w.readPos
	for i := range rows {
		r := &rows[i]
		if r.mine && !w.skips(r.pos) {
			e := &entry{pos: r.pos, prev: prev, msg: r.msg}
			if !died.before(r.pos) {
				e.known, e.suspect, e.attempts = true, true, 1
			}
			w.add(e)
			prev = r.pos
		}
		w.readPos = r.pos
	}
}

// read is a row of the log, decoded.
type read struct {
	pos  Pos
	msg  transport.Message
	mine bool // of this partition
}

func (c *consumer) decodeAll(rows []Row) []read {
	out := make([]read, len(rows))
	parts := c.s.l.cfg.Partitions
	for i := range rows {
		m := decode(&rows[i])
		out[i] = read{pos: rows[i].Pos, msg: m, mine: parts == 1 || keyHash(&m)%parts == c.part}
	}
	return out
}

// fetched is the result of one look at the database.
type fetched struct {
	rows    []read
	later   []Later
	nextDue int64 // of the messages for this group that wait; 0 if none
	now     int64 // by the database's clock
	err     error
}

// fetch looks for messages of the log and for this group.
func (c *consumer) fetch(ctx context.Context, after Pos, limit, laterLimit int, token int64) (f fetched) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	rows, err := c.s.l.d.Read(ctx, c.s.t, after, limit)
	if err != nil {
		return fetched{err: err}
	}
	f.rows = c.decodeAll(rows)
	if laterLimit > 0 {
		f.err = c.fetchLater(ctx, &f, laterLimit, token)
	}
	return f
}

func (c *consumer) fetchLater(ctx context.Context, f *fetched, limit int, token int64) error {
	l := c.s.l
	var due sql.NullInt64
	q := l.d.Bind("SELECT " + l.d.Now() + ", (SELECT MIN(due_ms) FROM postbus_later WHERE topic = ? AND grp = ?)")
	if err := l.db.QueryRowContext(ctx, q, c.s.t.Name, c.s.group).Scan(&f.now, &due); err != nil || !due.Valid {
		return err
	}
	if due.Int64 > f.now {
		f.nextDue = due.Int64
		return nil
	}
	where := "WHERE topic = ? AND grp = ? AND due_ms <= ? AND taken <> ?"
	args := []any{c.s.t.Name, c.s.group, f.now, token}
	if parts := l.cfg.Partitions; parts > 1 {
		where += " AND hash % ? = ?"
		args = append(args, parts, c.part)
	}
	var err error
	if f.later, err = l.laters(ctx, l.db, where+" ORDER BY due_ms, id LIMIT ?", append(args, limit)...); err != nil {
		return err
	}
	q = l.d.Bind("SELECT MIN(due_ms) FROM postbus_later WHERE topic = ? AND grp = ? AND due_ms > ?")
	if err := l.db.QueryRowContext(ctx, q, c.s.t.Name, c.s.group, f.now).Scan(&due); err != nil {
		return err
	}
	f.nextDue = due.Int64
	return nil
}

// takeLater adds messages for this group.
func (c *consumer) takeLater(w *window, rows []Later) {
	for i := range rows {
		r := &rows[i]
		if _, gone := w.laterGone[r.ID]; gone || w.laterHave[r.ID] != nil {
			continue
		}
		row := Row{UUID: r.UUID, Metadata: []byte(r.Metadata), Payload: r.Payload, Pos: Pos{Off: r.ID}}
		w.add(&entry{laterID: r.ID, msg: decode(&row), attempts: r.Attempts, suspect: r.Taken != 0})
	}
}
