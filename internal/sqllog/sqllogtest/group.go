package sqllogtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/postbus/postbus/transport"
)

func starts(f *fixture) {
	tr := f.open("")
	f.publish(tr, message("1"))
	// Messages are told apart by the database's clock.
	<-time.After(2 * f.clock)
	middle := time.Now()
	<-time.After(2 * f.clock)
	f.publish(tr, message("2"))
	now := f.subscribe(tr, transport.SubscribeConfig{Group: "now", Start: transport.StartNow()})
	f.publish(tr, message("3"))
	f.want(ids(f.subscribe(tr, transport.SubscribeConfig{Group: "begin"}).receive(3)), "1/1 2/1 3/1")
	f.want(ids(now.receive(1)), "3/1")
	f.want(ids(f.subscribe(tr, transport.SubscribeConfig{Group: "at", Start: transport.StartAt(middle)}).receive(2)), "2/1 3/1")
	future := f.subscribe(tr, transport.SubscribeConfig{Group: "future", Start: transport.StartAt(time.Now().Add(time.Hour))})
	f.publish(tr, message("4"))
	f.want(ids(future.receive(1)), "4/1")
}

func keyed(from, to, keys int) []transport.Message {
	msgs := messages(from, to)
	for i := range msgs {
		msgs[i].Key = fmt.Sprint("k", (from+i)%keys)
	}
	return msgs
}

func partitions(f *fixture) {
	tr := f.open("partitions=4")
	f.publish(tr, keyed(0, 200, 7)...)
	c := f.subscribe(tr, transport.SubscribeConfig{Prefetch: 50})
	last := map[string]int{}
	for n := 0; n < 200; {
		ds, err := c.Receive(f.Context(), 20)
		if err != nil {
			f.Fatal(err)
		}
		for _, d := range ds {
			var i int
			_, _ = fmt.Sscan(d.ID, &i)
			if prev, seen := last[d.Key]; seen && prev >= i {
				f.Errorf("key %s: %d came after %d", d.Key, i, prev)
			}
			last[d.Key] = i
		}
		n += len(ds)
		c.ack(ds...)
	}
	c.nothing(100 * time.Millisecond)
}

func repartition(f *fixture) {
	for _, n := range []string{"partitions=1", "partitions=3", "partitions=2", "partitions=1"} {
		tr := f.open(n)
		c := f.subscribe(tr, transport.SubscribeConfig{})
		f.publish(tr, keyed(0, 20, 5)...)
		for seen := map[string]bool{}; len(seen) < 20; {
			for _, d := range c.receive(1) {
				seen[d.ID] = true
				c.ack(d)
			}
		}
		if err := tr.Close(); err != nil {
			f.Fatal(err)
		}
	}
}

func retention(f *fixture) {
	tr := f.open("retention=100ms")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	slow := f.subscribe(tr, transport.SubscribeConfig{Group: "slow"})
	f.publish(tr, messages(0, 20)...)
	c.ack(c.receive(20)...)
	ds := slow.receive(20)
	slow.ack(ds[:10]...)
	left := func(n int) func() bool { return func() bool { return f.rows(f.T, f.url, f.topic) == n } }
	f.poll("the 10 that both have handled are removed", left(10))
	slow.ack(ds[10:]...)
	f.poll("all are removed", left(0))
	f.publish(tr, message("next"))
	f.want(ids(slow.receive(1)), "next/1")
}

func (f *fixture) poll(what string, done func() bool) {
	f.Helper()
	for deadline := time.Now().Add(patience); !done(); {
		if time.Now().After(deadline) {
			f.Fatalf("not in time: %s", what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func status(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	f.publish(tr, messages(0, 10)...)
	ds := c.receive(10)
	c.ack(ds[0], ds[1], ds[5])
	find := func() (g transport.GroupStatus) {
		all, err := tr.(transport.StatusReporter).Status(f.Context())
		if err != nil {
			f.Fatal(err)
		}
		for _, s := range all {
			if s.Topic == f.topic {
				g = s
			}
		}
		return g
	}
	g := find()
	if g.Lag != 7 || g.LagAge <= 0 || g.LagAge > time.Minute || g.Group != "g" || g.Partitions != 1 ||
		!strings.Contains(g.Owner, fmt.Sprintf("/%d/", os.Getpid())) {
		f.Errorf("got %+v", g)
	}
	if err := c.Close(); err != nil {
		f.Fatal(err)
	}
	if g = find(); g.Owner != "" || g.Lag != 7 {
		f.Errorf("after close: %+v", g)
	}
}

// statusOfOthers: a topic whose table cannot be read is the only one of which nothing is known.
func statusOfOthers(f *fixture) {
	tr := f.open("")
	broken := Unique("broken")
	f.subscribe(tr, transport.SubscribeConfig{})
	f.subscribe(tr, transport.SubscribeConfig{Topic: broken})
	f.exec("ALTER TABLE watermill_offsets_" + broken + " RENAME COLUMN offset_acked TO offset_lost")
	all, err := tr.(transport.StatusReporter).Status(f.Context())
	if err != nil {
		f.Fatal(err)
	}
	found := 0
	for i := range all {
		if s := &all[i]; s.Topic == broken || s.Topic == f.topic {
			if found++; (s.Err != nil) != (s.Topic == broken) {
				f.Errorf("got %+v", s)
			}
		}
	}
	if found != 2 {
		f.Errorf("%d of 2 groups in %+v", found, all)
	}
}

// names: topics that differ where an identifier could lose it.
func names(f *fixture) {
	tr := f.open("")
	base := f.topic
	long := base + strings.Repeat("x", 100)
	topics := []string{
		base, strings.ToUpper(base), strings.ToUpper(base[:1]) + base[1:], "offsets_" + base, base + "_pkey", base + "_offset_seq", base + ".x", base + `"`, base + "'",
		base + "`", base + "; DROP TABLE watermill_" + base + "; --", "../" + base, base + "/x", long, long + "y", base + "é", base + "e\u0301",
		base + "?", base + "%", base + `\`,
	}
	subs := make([]*consumer, len(topics))
	for i, topic := range topics {
		if err := tr.Publish(f.Context(), topic, []transport.Message{message(fmt.Sprint(i))}); err != nil {
			f.Fatalf("%q: %v", topic, err)
		}
		subs[i] = f.subscribe(tr, transport.SubscribeConfig{Topic: topic})
	}
	for i, c := range subs {
		f.Logf("%q", topics[i])
		f.want(ids(c.receive(1)), fmt.Sprintf("%d/1", i))
	}
	upper := f.subscribe(tr, transport.SubscribeConfig{Group: "G"})
	ds := upper.receive(1)
	f.want(ids(ds), "0/1")
	upper.ack(ds...)
	if err := tr.Publish(f.Context(), base+"\x00", []transport.Message{message("x")}); !errors.Is(err, transport.ErrInvalid) {
		f.Errorf("a NUL: %v", err)
	}
}

func constructors(f *fixture) {
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			tr, err := transport.Open(f.Context(), f.url)
			if err != nil {
				f.Error(err)
				return
			}
			defer tr.Close()
			if err := tr.Publish(f.Context(), f.topic, []transport.Message{message(Unique("m"))}); err != nil {
				f.Error(err)
			}
		})
	}
	wg.Wait()
	f.subscribe(f.open(""), transport.SubscribeConfig{}).receive(8)
}

func publishers(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{Prefetch: 1000})
	var wg sync.WaitGroup
	for p := range 16 {
		wg.Go(func() {
			for i := range 20 {
				m := message(fmt.Sprintf("%d-%d", p, i))
				if p == 3 && i == 7 {
					m.ID = "" // fails alone
				}
				ctx := f.Context()
				if p == 5 && i%2 == 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithCancel(ctx)
					cancel()
				}
				err := tr.Publish(ctx, f.topic, []transport.Message{m})
				if bad := m.ID == "" || ctx.Err() != nil; bad != (err != nil) {
					f.Errorf("%d-%d: %v", p, i, err)
				}
			}
		})
	}
	wg.Wait()
	last := map[string]int{}
	for _, d := range c.receive(16*20 - 1 - 10) {
		var p, i int
		_, _ = fmt.Sscanf(d.ID, "%d-%d", &p, &i)
		key := fmt.Sprint(p)
		if prev, seen := last[key]; seen && prev >= i {
			f.Errorf("publisher %d: %d came after %d", p, i, prev)
		}
		last[key] = i
	}
	c.nothing(100 * time.Millisecond)
}
