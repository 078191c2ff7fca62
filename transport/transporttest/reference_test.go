package transporttest

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

// disk is what the processes of a reference transport share. The transport has all capabilities and is written to be
// obviously right, not fast. A fault breaks it in one place; mutants_test.go lists the faults.
type disk struct {
	caps  transport.Capabilities
	fault string
	ended chan struct{} // what hangs by a fault ends with it

	mu      sync.Mutex
	changed chan struct{} // closed and replaced when anything changes
	topics  map[string][]*record
	groups  map[string]*group
	late    int
	tag     uint64
	opened  int
}

// record is a message as it is kept.
type record struct {
	msg  transport.Message
	lazy transport.Lazy // of which msg was made
	at   time.Time
}

type group struct {
	topic  string
	start  int // in the log of the topic
	states map[*record]*state
	subs   int
	joined int
}

// state is what a group knows of a message.
type state struct {
	*record
	acked    bool
	ackedBy  *refSub
	attempts int
	late     int // its place in the order is behind those of a lower one
	holder   *refSub
	tag      uint64
}

var everything = transport.Capabilities{
	Durable: true, Order: transport.OrderPerTopic, Delay: true, Target: true, Replay: true, Values: true, MaxPayload: 1 << 20,
}

func newDisk(caps transport.Capabilities, fault string) *disk {
	return &disk{
		caps: caps, fault: fault, ended: make(chan struct{}), changed: make(chan struct{}),
		topics: map[string][]*record{}, groups: map[string]*group{},
	}
}

func (d *disk) has(fault string) bool { return d.fault == fault }

func (d *disk) wake() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// reference is one process's transport on a disk.
type reference struct {
	*disk
	process int
	closed  bool
	subs    map[*refSub]bool
	asked   int
}

func (d *disk) open(context.Context) (transport.Transport, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range d.groups {
		d.spoilRestart(g)
	}
	d.opened++
	return &reference{disk: d, process: d.opened, subs: map[*refSub]bool{}}, nil
}

func (r *reference) Capabilities() transport.Capabilities {
	r.mu.Lock()
	defer r.mu.Unlock()
	caps := r.caps
	if r.asked++; r.has("capabilities change") && r.asked > 1 {
		caps.Delay = false
	}
	return caps
}

func (r *reference) Subscribe(ctx context.Context, cfg transport.SubscribeConfig) (transport.Subscription, error) {
	if err := cfg.Check(); err != nil && !r.has("takes invalid configurations") {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if r.closed && !r.has("open after close") {
		return nil, transport.ErrClosed
	}
	if cfg.Prefetch == 0 {
		cfg.Prefetch = transport.DefaultPrefetch
	}
	s := &refSub{r: r, group: r.group(cfg), prefetch: r.spoilPrefetch(cfg.Prefetch), lazy: cfg.Lazy, done: make(chan struct{})}
	s.group.subs++
	s.group.joined++
	r.spoilJoin(s.group)
	r.subs[s] = true
	if r.has("the context ends the subscription") {
		context.AfterFunc(ctx, func() { _ = s.Close() })
	}
	return s, nil
}

func (r *reference) group(cfg transport.SubscribeConfig) *group {
	topic := r.derive(cfg.Topic)
	key := r.spoilKey(topic+"\n"+r.derive(cfg.Group), cfg)
	g, known := r.groups[key]
	if !known {
		g = &group{topic: topic, states: map[*record]*state{}}
		r.groups[key] = g
	}
	if !known || r.has("start is for known groups too") {
		log := r.topics[topic]
		switch start := r.spoilStart(cfg.Start); {
		case start.Now() || !r.caps.Replay && !r.has("replays"):
			g.start = len(log)
		case !start.Time().IsZero():
			g.start, _ = slices.BinarySearchFunc(log, start.Time(), func(rec *record, t time.Time) int { return rec.at.Compare(t) })
		}
		if r.has("joins late") {
			g.start++
		}
	}
	return g
}

func (r *reference) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed && r.has("close fails the second time") {
		return errors.New("broken")
	}
	r.closed = true
	for s := range r.subs {
		if r.has("close leaves consumers") {
			break
		}
		s.end(r.has("transport close keeps"), transport.Release)
	}
	if r.has("forgets at restart") {
		clear(r.topics)
	}
	return nil
}

// crash ends the process without giving back.
func (r *reference) crash() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	for s := range r.subs {
		outcome := transport.Requeue // a lease ends: the attempt has been made
		if r.has("crash does not count") {
			outcome = transport.Release
		}
		s.end(false, outcome)
	}
}

// eligible lists what may be delivered to a group now, in order, and when the next delayed message is due.
func (r *reference) eligible(g *group) (ready []*state, due time.Time) {
	log := r.topics[g.topic]
	for r.fault == "" && g.start < len(log) && g.states[log[g.start]] != nil && g.states[log[g.start]].acked {
		delete(g.states, log[g.start])
		g.start++
	}
	for _, rec := range log[min(g.start, len(log)):] {
		st := g.states[rec]
		if st == nil {
			st = &state{record: rec, attempts: rec.msg.Attempts}
			r.spoilState(st)
			g.states[rec] = st
		}
		m := &rec.msg
		switch {
		case st.acked || st.holder != nil:
		case m.TargetGroup != "" && r.groups[r.spoilKey(g.topic+"\n"+r.derive(m.TargetGroup), transport.SubscribeConfig{})] != g && !r.has("ignores target"):
		case time.Now().Before(m.NotBefore) && !r.ignoresDelay(g, m):
			if due.IsZero() || m.NotBefore.Before(due) {
				due = m.NotBefore
			}
			if r.has("delay holds up") {
				return ready, due
			}
		default:
			ready = append(ready, st)
		}
	}
	slices.SortStableFunc(ready, func(a, b *state) int { return cmp.Compare(a.late, b.late) })
	return ready, due
}

func (r *reference) derive(name string) string {
	switch r.fault {
	case "names fold case":
		return strings.ToLower(name)
	case "names are cut":
		return name[:min(len(name), 200)]
	case "names lose signs":
		return strings.NewReplacer(".", "_", "-", "_", "/", "_").Replace(name)
	}
	return name
}
