package sqllog

import (
	"cmp"
	"context"
	"database/sql"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

const (
	// readBatch is how many rows are read at once, at least.
	readBatch = 1000
	// firstPoll is the pause after a look that found nothing, where that does not mean that there is nothing; it doubles.
	firstPoll = time.Millisecond
	// ioTimeout bounds one statement.
	ioTimeout = 15 * time.Second
	// loadPause is the time between two tries to load what the lease is for.
	loadPause = 250 * time.Millisecond
	// closeTimeout bounds giving back a lease; without it, the lease runs out.
	closeTimeout = 3 * time.Second
)

// consumer consumes one partition while the subscription holds its lease. Its goroutine does all writes.
type consumer struct {
	s        *Subscription
	part     int
	consumer string // its name in the table of offsets
	owner    string
	kick     chan struct{}
	fetched  chan fetched

	// Guarded by s.mu.
	running bool
	left    bool      // the lease may be held, and there is no window to give back with it
	sheds   time.Time // since when it is to give up the lease, once what was handed out is settled; zero if it is not
	keeps   time.Time // until then it is not asked to
	w       *window   // nil unless the lease is held
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

// start has the consumer work until its lease ends.
func (c *consumer) start(le *lease, running *sync.WaitGroup) {
	c.s.mu.Lock()
	c.running = true
	c.s.mu.Unlock()
	running.Go(func() {
		c.run(le)
		c.s.mu.Lock()
		c.running = false
		c.s.mu.Unlock()
		poke(c.s.ended)
	})
}

func (c *consumer) leaves(left bool) {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.left = left
}

func (c *consumer) run(le *lease) {
	woken := c.s.l.hub.join(c.s.t.Name)
	defer c.s.l.hub.leave(c.s.t.Name, woken)
	ctx, cancel := context.WithTimeout(c.s.ctx, ioTimeout)
	w, err := c.load(ctx, le)
	cancel()
	if err != nil {
		if c.s.ctx.Err() == nil {
			c.s.report(err)
			sleep(c.s.ctx, loadPause)
		}
		return
	}
	c.leaves(false)
	c.consume(le.token, w, woken)
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
	for i := range rows {
		r := &rows[i]
		n := sort.Search(len(s.pending), func(i int) bool { return !s.pending[i].pos.before(r.Pos) })
		p := s.pending[n]
		// All before it is settled or pending. Not so far back as the pending one before it: what is between the two must
		// not count as delivered and unsettled again.
		prev := Pos{r.Pos.Tx, r.Pos.Off - 1}
		e := &entry{pos: r.Pos, prev: prev, msg: decode(r), attempts: p.attempts, known: true, suspect: p.inFlight && !l.cfg.Harmless}
		if p.inFlight {
			e.attempts++
		}
		w.add(e)
	}
	died := s.frontier
	for w.readPos.before(died) {
		rows, _, err := l.d.Read(ctx, c.s.t, w.readPos, NoBound, c.batch())
		if err != nil {
			return nil, err
		}
		if len(rows) == 0 {
			break // they were removed
		}
		c.take(w, &fetched{rows: c.decodeAll(rows)}, died)
	}
	return w, nil
}

func (c *consumer) batch() int { return min(max(readBatch, c.s.prefetch), 5000) }

// take adds what was read, each message in its place; messages up to died were in flight when the predecessor died.
func (c *consumer) take(w *window, f *fetched, died Pos) {
	prev, later := w.readPos, f.later
	for i := range f.rows {
		r := &f.rows[i]
		for len(later) > 0 && later[0].Pos.Off != 0 && later[0].Pos.before(r.pos) {
			w.addLater(&later[0])
			later = later[1:]
		}
		if r.mine && !w.skips(r.pos) {
			e := &entry{pos: r.pos, prev: prev, msg: r.msg}
			if !died.before(r.pos) {
				e.known, e.suspect, e.attempts = true, !c.s.l.cfg.Harmless, 1
			}
			w.add(e)
			prev = r.pos
		}
		w.readPos = r.pos
	}
	for i := range later {
		if later[i].Pos.Off == 0 || !f.more {
			w.addLater(&later[i])
		}
	}
}

// read is a row of the log, decoded.
type read struct {
	pos  Pos
	msg  *transport.Message
	mine bool // of this partition
}

func (c *consumer) decodeAll(rows []Row) []read {
	out := make([]read, len(rows))
	parts := c.s.l.cfg.Partitions
	for i := range rows {
		m := decode(&rows[i])
		out[i] = read{pos: rows[i].Pos, msg: m, mine: parts == 1 || keyHash(m)%parts == c.part}
	}
	return out
}

// fetched is the result of one look at the database.
type fetched struct {
	rows    []read
	more    bool    // there are other rows, perhaps before some of later
	later   []Later // in the order of their places; those without one come last
	nextDue int64   // of the messages for this group that wait; 0 if none
	now     int64   // by the database's clock
	err     error
}

// fetch looks for messages of the log and for this group. The bound is read first: of what was published after it,
// neither is taken, so that together they are in order.
func (c *consumer) fetch(ctx context.Context, after Pos, limit, laterLimit int, token int64) (f fetched) {
	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	l := c.s.l
	var bound int64
	var due sql.NullInt64
	q := l.d.Bind("SELECT " + l.d.Now() + ", " + l.d.Bound(c.s.t) + ", (SELECT MIN(due_ms) FROM postbus_later WHERE topic = ? AND grp = ?)")
	if f.err = l.db.QueryRowContext(ctx, q, c.s.t.Name, c.s.t.Name, c.s.group).Scan(&f.now, &bound, &due); f.err != nil {
		return f
	}
	switch {
	case due.Valid && due.Int64 > f.now:
		f.nextDue = due.Int64
	case due.Valid && laterLimit > 0:
		if f.err = c.fetchLater(ctx, &f, bound, laterLimit, token); f.err != nil {
			return f
		}
	}
	rows, more, err := l.d.Read(ctx, c.s.t, after, bound, limit)
	if err != nil {
		f.err = err
		return f
	}
	f.rows, f.more = c.decodeAll(rows), more
	return f
}

func (c *consumer) fetchLater(ctx context.Context, f *fetched, bound int64, limit int, token int64) error {
	l := c.s.l
	where := "WHERE topic = ? AND grp = ? AND due_ms <= ? AND taken <> ?"
	args := []any{c.s.t.Name, c.s.group, f.now, token}
	if parts := l.cfg.Partitions; parts > 1 {
		where += " AND hash % ? = ?"
		args = append(args, parts, c.part)
	}
	rows, err := l.laters(ctx, l.db, where+" ORDER BY due_ms, id LIMIT ?", append(args, limit)...)
	if err != nil {
		return err
	}
	for i := range rows {
		if rows[i].Pos.Off == 0 || l.d.Within(rows[i].Pos, bound) {
			f.later = append(f.later, rows[i])
		}
	}
	slices.SortStableFunc(f.later, func(a, b Later) int {
		if (a.Pos.Off == 0) != (b.Pos.Off == 0) {
			return cmp.Compare(b.Pos.Off, a.Pos.Off)
		}
		return a.Pos.Compare(b.Pos)
	})
	var due sql.NullInt64
	q := l.d.Bind("SELECT MIN(due_ms) FROM postbus_later WHERE topic = ? AND grp = ? AND due_ms > ?")
	if err := l.db.QueryRowContext(ctx, q, c.s.t.Name, c.s.group, f.now).Scan(&due); err != nil {
		return err
	}
	f.nextDue = due.Int64
	return nil
}
