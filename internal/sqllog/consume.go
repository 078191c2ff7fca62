package sqllog

import (
	"context"
	"database/sql"
	"time"

	"github.com/postbus/postbus/transport"
)

// turn is what the goroutine of a consumer remembers while it holds the lease.
type turn struct {
	c     *consumer
	token int64
	w     *window

	fetching bool
	again    bool // something came while the fetch was under way
	poll     time.Duration
	nextRead time.Time
	renewAt  time.Time
	retryAt  time.Time // after an error
	pause    time.Duration
}

// consume holds the lease until the subscription closes or the lease is lost.
func (c *consumer) consume(token int64, w *window, woken <-chan struct{}) {
	l := c.s.l
	t := &turn{c: c, token: token, w: w, renewAt: time.Now().Add(l.cfg.Lease / 3)}
	t.poll = t.firstPoll()
	c.s.mu.Lock()
	c.w = w
	c.s.mu.Unlock()
	ctx, cancel := context.WithCancel(c.s.ctx)
	defer func() {
		cancel()
		if t.fetching {
			<-c.fetched
		}
		c.drop()
	}()
	for {
		if c.s.ctx.Err() != nil {
			t.giveBack()
			return
		}
		if t.shedding() {
			t.giveBack()
			c.s.l.wake(leaseText(c.s.t.Name))
			return
		}
		now := time.Now()
		if !now.Before(t.retryAt) && t.mustSave(now) {
			if !t.save(ctx, l.cfg.Lease) {
				l.cfg.Logger.Warn("postbus: the lease went to another consumer", "driver", l.d.Name(), "topic", c.s.t.Name, "group", c.s.group)
				return
			}
		}
		t.startFetch(ctx)
		timer := time.NewTimer(t.nextEvent())
		select {
		case <-c.s.ctx.Done():
		case <-c.kick:
		case <-woken:
			t.poll, t.nextRead, t.again = t.firstPoll(), time.Time{}, t.fetching
		case f := <-c.fetched:
			t.fetching = false
			t.took(f)
		case <-timer.C:
		}
		timer.Stop()
	}
}

// shedding reports whether the lease is to be given up now: who has to, waits for what it has handed out, so that the next
// owner does not overtake it. If that takes longer than a lease, it goes on for as long, and tries again.
func (t *turn) shedding() bool {
	c, now := t.c, time.Now()
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	switch {
	case c.sheds.IsZero():
		return false
	case len(t.w.handed) == 0:
		return true
	case now.Sub(c.sheds) > c.s.l.cfg.Lease:
		c.sheds, c.keeps = time.Time{}, now.Add(c.s.l.cfg.Lease)
		poke(c.s.wake)
	}
	return false
}

// drop forgets the window: its tags are not valid any more.
func (c *consumer) drop() {
	var err error
	if c.s.l.crashed.Load() {
		err = transport.ErrClosed
	}
	c.s.mu.Lock()
	c.lastTag = c.w.tags
	c.s.handed -= len(c.w.handed)
	c.w, c.sheds, c.keeps = nil, time.Time{}, time.Time{}
	c.saved = c.dirty
	waiters := c.waiters
	c.waiters = nil
	c.s.mu.Unlock()
	for _, w := range waiters {
		w.done <- err
	}
}

// firstPoll is the pause after a look that found nothing, if there had been a reason to look.
func (t *turn) firstPoll() time.Duration {
	l := t.c.s.l
	if l.d.Prompt() && time.Since(time.Unix(0, l.txAt.Load())) > txLately {
		return l.cfg.Poll
	}
	return firstPoll
}

func (t *turn) mustSave(now time.Time) bool {
	t.c.s.mu.Lock()
	defer t.c.s.mu.Unlock()
	return t.c.dirty > t.c.saved || t.c.sheds.IsZero() && t.w.wantsMark() || !now.Before(t.renewAt)
}

func (t *turn) nextEvent() time.Duration {
	next := t.renewAt
	if !t.fetching {
		t.c.s.mu.Lock()
		room := t.c.sheds.IsZero() && t.w.room(t.c.batch()) >= t.c.batch()
		t.c.s.mu.Unlock()
		if room && t.nextRead.Before(next) {
			next = t.nextRead
		}
	}
	if next.Before(t.retryAt) {
		next = t.retryAt
	}
	return time.Until(next)
}

// startFetch looks for messages, if it is time and there is room.
func (t *turn) startFetch(ctx context.Context) {
	c, now := t.c, time.Now()
	if t.fetching || now.Before(t.nextRead) || now.Before(t.retryAt) {
		return
	}
	c.s.mu.Lock()
	room, after, sheds := t.w.room(c.batch()), t.w.readPos, !c.sheds.IsZero()
	clear(t.w.laterGone)
	have := len(t.w.laterHave)
	c.s.mu.Unlock()
	if room < c.batch() || sheds {
		return
	}
	laterLimit := 0
	if have < 2*c.s.prefetch {
		laterLimit = c.s.prefetch + have
	}
	t.fetching = true
	go func() { c.fetched <- c.fetch(ctx, after, c.batch(), laterLimit, t.token) }()
}

// took takes the result of a fetch.
func (t *turn) took(f fetched) {
	c := t.c
	if f.err != nil {
		t.failed(f.err)
		return
	}
	t.pause = 0
	c.s.mu.Lock()
	before := t.w.seq
	c.take(t.w, &f, Pos{})
	added := t.w.seq > before
	c.s.mu.Unlock()
	now := time.Now()
	switch {
	case len(f.rows) > 0 || added || t.again:
		t.poll, t.nextRead = t.firstPoll(), time.Time{}
	default:
		t.nextRead = now.Add(t.poll)
		t.poll = min(2*t.poll, c.s.l.cfg.Poll)
		if f.nextDue != 0 {
			if due := now.Add(time.Duration(f.nextDue-f.now) * time.Millisecond); due.Before(t.nextRead) {
				t.nextRead = due
			}
		}
	}
	t.again = false
}

// failed pauses after an error of the database.
func (t *turn) failed(err error) {
	if t.c.s.ctx.Err() != nil {
		return
	}
	t.pause = min(max(2*t.pause, 50*time.Millisecond), time.Second)
	t.retryAt = time.Now().Add(t.pause)
	t.c.s.report(err)
}

// save writes settlements of the past and marks of what comes next. It reports false if the lease is lost.
func (t *turn) save(ctx context.Context, lease time.Duration) bool {
	c := t.c
	c.s.mu.Lock()
	if lease > 0 && c.sheds.IsZero() {
		t.w.promote()
	}
	st := t.w.snapshot()
	done, notes, upTo := t.w.laterDone, t.w.laterNote, c.dirty
	t.w.laterDone, t.w.laterNote = nil, nil
	c.s.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, ioTimeout)
	defer cancel()
	ok, err := t.write(ctx, &Save{
		Topic: c.s.t, Group: c.s.group, Consumer: c.consumer, Owner: c.owner, Part: c.part, Token: t.token, Lease: lease,
		Offset: st.prefix, State: st.encode(),
	}, done, notes)
	if err == nil && !ok {
		return false
	}
	c.s.mu.Lock()
	t.w.told(err == nil)
	if err == nil {
		c.saved = upTo
	} else { // what was marked is marked anew by the next try
		t.w.laterDone = append(done, t.w.laterDone...)
		t.w.laterNote = append(notes, t.w.laterNote...)
	}
	again := err != nil && lease > 0 && c.s.ctx.Err() != nil // Close has broken it off; giveBack writes it
	kept := c.waiters[:0]
	for _, w := range c.waiters {
		if w.upTo <= upTo && !again {
			w.done <- err
		} else {
			kept = append(kept, w)
		}
	}
	c.waiters = kept
	c.s.mu.Unlock()
	if err != nil {
		t.failed(err)
		return true
	}
	t.renewAt = time.Now().Add(c.s.l.cfg.Lease / 3)
	poke(c.s.wake)
	return true
}

func (t *turn) write(ctx context.Context, s *Save, done []int64, notes []laterNote) (ok bool, err error) {
	l := t.c.s.l
	if len(done) == 0 && len(notes) == 0 {
		return l.d.Save(ctx, l.db, s)
	}
	err = l.inTx(ctx, func(tx *sql.Tx) error {
		if ok, err = l.d.Save(ctx, tx, s); err != nil || !ok {
			return err
		}
		if err := l.deleteLater(ctx, tx, done); err != nil {
			return err
		}
		// The last note on a message counts; most have the same text, and go together.
		last := map[int64]laterNote{}
		for _, n := range notes {
			last[n.id] = n
		}
		for _, id := range done {
			delete(last, id)
		}
		same := map[laterNote][]int64{}
		for id, n := range last {
			n.id = 0
			same[n] = append(same[n], id)
		}
		for n, ids := range same {
			taken := int64(0)
			if n.taken {
				taken = s.Token
			}
			err := l.eachID(ids, func(marks string, args []any) error {
				q := l.d.Bind("UPDATE postbus_later SET attempts = ?, taken = ? WHERE id IN (" + marks + ")")
				_, err := tx.ExecContext(ctx, q, append([]any{n.attempts, taken}, args...)...)
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return ok, err
}

// giveBack ends the lease in order: nothing was in flight, and another consumer can go on at once.
func (t *turn) giveBack() {
	if t.c.s.l.crashed.Load() {
		return
	}
	t.c.s.mu.Lock()
	t.w.release()
	t.c.s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	t.save(ctx, 0)
}
