package sqllog

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"testing"

	"pgregory.net/rapid"

	"github.com/postbus/postbus/transport"
)

// TestWindow plays a consumer against a log in memory: it reads, saves (which can fail), hands out, settles in any order,
// gives everything back, dies, and begins anew with what was saved.
func TestWindow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) { // five stories a check: a rare one took thousands
		for range 5 {
			play(t)
		}
	})
}

func play(t *rapid.T) {
	m := newModel(t)
	t.Repeat(map[string]func(*rapid.T){
		"publish": func(t *rapid.T) { m.publish(rapid.IntRange(1, 8).Draw(t, "n")) },
		"read":    func(t *rapid.T) { m.read(rapid.IntRange(1, 6).Draw(t, "n")) },
		"save":    func(t *rapid.T) { m.w.promote(); m.save(rapid.IntRange(0, 4).Draw(t, "fails") > 0) },
		"hand":    func(t *rapid.T) { m.hand(rapid.IntRange(1, 5).Draw(t, "n")) },
		"settle": func(t *rapid.T) {
			if len(m.held) == 0 {
				t.Skip("nothing is in hand")
			}
			m.settle(rapid.IntRange(0, len(m.held)-1).Draw(t, "which"),
				rapid.SampledFrom([]transport.Outcome{transport.Ack, transport.Ack, transport.Requeue, transport.Release}).Draw(t, "outcome"))
		},
		"release": func(*rapid.T) { m.w.release(); m.lose(false); m.save(true); m.begin() },
		"die":     func(*rapid.T) { m.lose(true); m.begin() },
		"":        func(*rapid.T) { m.check() },
	})
	m.finish()
}

// rows is the part of a database that a window needs.
type rows struct {
	Dialect
	log []Row
}

func (r *rows) Read(_ context.Context, _ *Topic, after Pos, _ int64, limit int) ([]Row, bool, error) {
	i := sort.Search(len(r.log), func(i int) bool { return after.before(r.log[i].Pos) })
	end := min(len(r.log), i+limit)
	return r.log[i:end], end < len(r.log), nil
}

func (r *rows) ReadAt(_ context.Context, _ *Topic, at []Pos) (found []Row, err error) {
	for _, row := range r.log {
		if slices.Contains(at, row.Pos) {
			found = append(found, row)
		}
	}
	return found, nil
}

// story is what has happened to one message.
type story struct {
	handed, failed int  // deliveries; those of them that ended with a requeue or with the death of the consumer
	acked, saved   bool // saved: the database knows
}

type model struct {
	t       *rapid.T
	db      rows
	c       *consumer
	w       *window
	durable []byte
	prefix  Pos
	held    []transport.Delivery
	stories map[string]*story
	deaths  int
}

func newModel(t *rapid.T) *model {
	m := &model{t: t, stories: map[string]*story{}}
	m.durable = (&state{}).encode()
	s := &Subscription{l: &Log{d: &m.db, cfg: Config{Partitions: 1}}, prefetch: rapid.IntRange(1, 6).Draw(t, "prefetch")}
	m.c = &consumer{s: s}
	m.begin()
	return m
}

// publish leaves gaps, as rolled-back transactions do.
func (m *model) publish(n int) {
	for range n {
		at := Pos{Tx: 1, Off: 1}
		if k := len(m.db.log); k > 0 {
			at = m.db.log[k-1].Pos
			at.Off += int64(rapid.IntRange(1, 3).Draw(m.t, "gap"))
			if rapid.Bool().Draw(m.t, "another transaction") {
				at.Tx++
			}
		}
		id := fmt.Sprint(len(m.db.log))
		m.db.log = append(m.db.log, Row{Pos: at, UUID: id})
		m.stories[id] = &story{}
	}
}

func (m *model) begin() {
	s, err := decodeState(m.durable)
	if err != nil {
		m.t.Fatal(err)
	}
	if m.w, err = m.c.load(context.Background(), &lease{state: s}); err != nil {
		m.t.Fatal(err)
	}
}

func (m *model) read(n int) {
	found, more, _ := m.db.Read(context.Background(), nil, m.w.readPos, NoBound, n)
	m.c.take(m.w, &fetched{rows: m.c.decodeAll(found), more: more}, Pos{})
}

func (m *model) save(works bool) {
	s := m.w.snapshot()
	if works {
		if s.prefix.before(m.prefix) {
			m.t.Fatalf("the prefix went back from %v to %v", m.prefix, s.prefix)
		}
		m.prefix, m.durable = s.prefix, s.encode()
		for _, st := range m.stories {
			st.saved = st.acked
		}
	}
	m.w.told(works)
}

func (m *model) hand(n int) {
	for _, d := range m.w.hand(n) {
		st := m.stories[d.ID]
		switch {
		case st.saved:
			m.t.Fatalf("%s comes again, and was acknowledged", d.ID)
		case st.acked:
			m.t.Fatalf("%s comes again within one window", d.ID)
		case d.Attempt <= st.failed || d.Attempt > st.handed+m.deaths+1:
			m.t.Fatalf("%s comes with attempt %d: it was handed out %d times, of which %d failed", d.ID, d.Attempt, st.handed, st.failed)
		}
		for _, row := range m.db.log {
			if row.UUID == d.ID {
				break
			}
			if earlier := m.stories[row.UUID]; !earlier.acked && !slices.ContainsFunc(m.held, func(h transport.Delivery) bool { return h.ID == row.UUID }) {
				m.t.Fatalf("%s comes before %s", d.ID, row.UUID)
			}
		}
		st.handed++
		m.held = append(m.held, d)
	}
}

func (m *model) settle(i int, outcome transport.Outcome) {
	d := m.held[i]
	m.held = slices.Delete(m.held, i, i+1)
	if !m.w.settle(d.Tag, outcome) || m.w.settle(d.Tag, outcome) {
		m.t.Fatalf("the tag %d of %s is not valid once", d.Tag, d.ID)
	}
	switch outcome {
	case transport.Ack:
		m.stories[d.ID].acked = true
	case transport.Requeue:
		m.stories[d.ID].failed++
	}
}

// lose drops what is in hand, and what the database does not know.
func (m *model) lose(died bool) {
	for _, d := range m.held {
		if died {
			m.stories[d.ID].failed++
		}
	}
	if died {
		m.deaths++
		for _, st := range m.stories {
			st.acked = st.saved
		}
	}
	m.held = nil
}

func (m *model) check() {
	if n := len(m.w.handed); n != len(m.held) || n > m.w.prefetch {
		m.t.Fatalf("%d are in hand, %d were handed out, %d may be", n, len(m.held), m.w.prefetch)
	}
	for _, e := range m.w.handed {
		if e.suspect && len(m.w.handed) > 1 {
			m.t.Fatalf("%s was in flight when a consumer died, and is not delivered alone", e.msg.ID)
		}
	}
	s := m.w.snapshot()
	again, err := decodeState(s.encode())
	if err != nil || fmt.Sprint(again) != fmt.Sprint(s) {
		m.t.Fatalf("a state is read as another one: %+v, %+v, %v", s, again, err)
	}
}

// finish handles what is left: everything comes, and nothing is left over.
func (m *model) finish() {
	for range 10 * (len(m.db.log) + 1) {
		m.read(100)
		m.w.promote()
		m.save(true)
		m.hand(100)
		for len(m.held) > 0 {
			m.settle(0, transport.Ack)
		}
	}
	m.save(true)
	for id, st := range m.stories {
		if !st.saved {
			m.t.Fatalf("%s never came", id)
		}
	}
	if k := len(m.db.log); k > 0 && m.prefix != m.db.log[k-1].Pos {
		m.t.Fatalf("the prefix is %v at the end", m.prefix)
	}
}
