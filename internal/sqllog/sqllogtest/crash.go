package sqllogtest

import (
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

func exactAcks(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	f.publish(tr, messages(0, 10)...)
	ds := c.receive(10)
	c.ack(ds[0], ds[1], ds[3], ds[7])
	c.settle(transport.Requeue, ds[2])
	again := c.receive(1)
	f.want(ids(again), "2/2")
	c.settle(transport.Requeue, again...)
	if err := tr.Close(); err != nil {
		f.Fatal(err)
	}
	tr = f.open("")
	c = f.subscribe(tr, transport.SubscribeConfig{})
	ds = c.receive(6)
	f.want(ids(ds), "2/3 4/1 5/1 6/1 8/1 9/1")
	c.ack(ds...)
	if err := tr.Close(); err != nil {
		f.Fatal(err)
	}
	tr = f.open("")
	c = f.subscribe(tr, transport.SubscribeConfig{})
	f.publish(tr, message("next"))
	f.want(ids(c.receive(1)), "next/1")
}

// killer: children die of one message; each restart counts it, alone, while its neighbours are not lost.
func killer(f *fixture) {
	tr := f.open("")
	s := f.subscribe(tr, transport.SubscribeConfig{Group: "g"})
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	f.publish(tr, message("a"), message("b"), message("killer"), message("c"), message("d"))
	const lease = "lease=500ms"
	f.want(f.child(lease, "").read(f, 100), "a/1 b/1 killer/1")
	// It died with killer, c and d in flight.
	f.want(f.child(lease, "").read(f, 100), "killer/2")
	last := f.child(lease, "")
	f.want(last.read(f, 3), "killer/3 c/2 d/2")
	f.publish(tr, message("e"))
	f.want(last.read(f, 1), "e/1")
}

func replaced(f *fixture) {
	tr := f.open("")
	f.subscribeClose(tr)
	f.publish(tr, messages(0, 5)...)
	c := f.child("lease=1s", "hold")
	f.want(c.read(f, 5), "0/1 1/1 2/1 3/1 4/1")
	standby := f.subscribe(tr, transport.SubscribeConfig{})
	c.kill()
	var got []string
	for range 5 {
		ds := standby.receive(1)
		got = append(got, ids(ds))
		standby.ack(ds...)
	}
	f.want(strings.Join(got, " "), "0/2 1/2 2/2 3/2 4/2")
}

func (f *fixture) subscribeClose(tr transport.Transport) {
	f.Helper()
	if err := f.subscribe(tr, transport.SubscribeConfig{}).Close(); err != nil {
		f.Fatal(err)
	}
}

// stop returns once the child stands still. SQLite has one lock for all who write: it must not have that then.
func (c *child) stop(f *fixture) {
	f.Helper()
	db, err := store.Open(f.Context(), f.url)
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	lock, err := db.SQL().BeginTx(f.Context(), nil)
	if err != nil {
		f.Fatal(err)
	}
	defer func() { _ = lock.Rollback() }()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		f.Fatal(err)
	}
	for err = syscall.EINTR; err == syscall.EINTR; {
		_, err = syscall.Wait4(c.cmd.Process.Pid, nil, syscall.WUNTRACED, nil)
	}
	if err != nil {
		f.Fatal(err)
	}
}

// paused: a child is stopped beyond its lease, replaced, and then goes on: its acks must not count.
func paused(f *fixture) {
	tr := f.open("lease=10s") // the child must not get it back
	f.subscribeClose(tr)
	f.publish(tr, messages(0, 3)...)
	c := f.child("lease=500ms", "hold")
	f.want(c.read(f, 3), "0/1 1/1 2/1")
	c.stop(f)
	heir := f.subscribe(tr, transport.SubscribeConfig{})
	first := heir.receive(1)
	f.want(ids(first), "0/2")
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		f.Fatal(err)
	}
	// Whatever the child writes now is refused by the token; the heir goes on.
	heir.ack(first...)
	second := heir.receive(1)
	f.want(ids(second), "1/2")
	heir.ack(second...)
	third := heir.receive(1)
	f.want(ids(third), "2/2")
	heir.ack(third...)
	f.publish(tr, message("x"))
	f.want(ids(heir.receive(1)), "x/1")
}

func laterMessages(f *fixture) {
	tr := f.open("")
	a := f.subscribe(tr, transport.SubscribeConfig{Group: "a"})
	b := f.subscribe(tr, transport.SubscribeConfig{Group: "b"})
	soon := time.Now().Add(700 * time.Millisecond)
	target := func(id, group string, at time.Time) transport.Message {
		m := message(id)
		m.TargetGroup, m.NotBefore = group, at
		return m
	}
	due := map[string]time.Time{"all": soon, "a-soon": soon.Add(time.Second)}
	f.publish(tr, target("all", "", due["all"]), target("only-a", "a", time.Time{}), target("a-soon", "a", due["a-soon"]))
	// On a slow machine, what is for later is due before the rest has been received.
	var came []string
	for _, c := range []*consumer{a, a, a, a, b} {
		d := c.receive(1)[0]
		came = append(came, ids([]transport.Delivery{d}))
		if early := time.Until(due[d.ID]); early > 0 {
			f.Errorf("%s was delivered %v too early", d.ID, early)
		}
		if d.ID == "only-a" && d.Attempt == 1 {
			c.settle(transport.Requeue, d)
		} else {
			c.ack(d)
		}
	}
	f.want(sorted(strings.Join(came[:4], " "))+", "+came[4], "a-soon/1 all/1 only-a/1 only-a/2, all/1")
	b.nothing(200 * time.Millisecond)

	// They survive, each with its attempts.
	f.publish(tr, target("kept", "a", time.Now().Add(300*time.Millisecond)), target("tried", "a", time.Time{}))
	first := a.receive(1)[0]
	if first.ID == "kept" { // given back at once it would come again, before the other
		a.settle(transport.Requeue, a.receive(1)...)
		a.settle(transport.Release, first)
	} else {
		a.settle(transport.Requeue, first)
	}
	if err := tr.Close(); err != nil {
		f.Fatal(err)
	}
	tr = f.open("")
	a = f.subscribe(tr, transport.SubscribeConfig{Group: "a"})
	ds := a.receive(2)
	f.want(sorted(ids(ds)), "kept/1 tried/2")
	a.ack(ds...)
	if err := tr.Close(); err != nil {
		f.Fatal(err)
	}
	tr = f.open("")
	a = f.subscribe(tr, transport.SubscribeConfig{Group: "a"})
	a.nothing(300 * time.Millisecond)
}

func targetedKiller(f *fixture) {
	tr := f.open("")
	f.subscribeClose(tr)
	var msgs []transport.Message
	for _, id := range []string{"a", "killer", "b"} {
		m := message(id)
		m.TargetGroup = "g"
		msgs = append(msgs, m)
	}
	f.publish(tr, msgs...)
	const lease = "lease=500ms"
	f.want(f.child(lease, "").read(f, 100), "a/1 killer/1")
	f.want(f.child(lease, "").read(f, 100), "killer/2")
	f.want(f.child(lease, "").read(f, 2), "killer/3 b/2")
}

func backlog(f *fixture) {
	tr := f.open("")
	const n = 7000
	for i := 0; i < n; i += 1000 {
		f.publish(tr, messages(i, i+1000)...)
	}
	c := f.subscribe(tr, transport.SubscribeConfig{Prefetch: 500})
	for i := 0; i < n; {
		ds, err := c.Receive(f.Context(), 400)
		if err != nil {
			f.Fatal(err)
		}
		for _, d := range ds {
			if d.ID != fmt.Sprint(i) || d.Attempt != 1 {
				f.Fatalf("got %s/%d, want %d/1", d.ID, d.Attempt, i)
			}
			i++
		}
		c.ack(ds...)
	}
	c.nothing(50 * time.Millisecond)
}
