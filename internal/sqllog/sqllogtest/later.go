package sqllogtest

import (
	"slices"
	"strings"
	"time"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

func delayed(id string, at time.Time) transport.Message {
	m := message(id)
	m.NotBefore = at
	return m
}

func (f *fixture) exec(query string, args ...any) {
	f.Helper()
	db, err := store.Open(f.Context(), f.url)
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	if _, err := db.SQL().ExecContext(f.Context(), db.Dialect().Bind(query), args...); err != nil {
		f.Fatal(err)
	}
}

// brokenTopic: the table of one topic is gone when its delayed messages are due, and comes back.
func brokenTopic(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	var broken string
	var soon time.Time
	for in := 300 * time.Millisecond; ; in *= 4 { // until the table goes in time
		broken, soon = Unique("gone"), time.Now().Add(in)
		if err := tr.Publish(f.Context(), broken, []transport.Message{delayed("1", soon.Add(-time.Millisecond)), delayed("2", soon)}); err != nil {
			f.Fatal(err)
		}
		f.exec("DROP TABLE watermill_" + broken)
		if time.Until(soon) > 2*time.Millisecond {
			break
		}
	}
	f.publish(tr, delayed("x", soon), delayed("y", soon.Add(time.Second)))
	ds := c.receive(2)
	f.want(sorted(ids(ds)), "x/1 y/1") // several instances move them
	c.ack(ds...)
	f.want(sorted(ids(f.subscribe(f.open(""), transport.SubscribeConfig{Topic: broken}).receive(2))), "1/1 2/1")
}

// badLaterRows: delayed messages that a table refuses hold up neither those before nor those after them.
func badLaterRows(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	allow := f.refuse("watermill_"+f.topic, "uuid", "LIKE 'bad%'")
	soon := time.Now().Add(2 * time.Second) // not before they are published, which the table would refuse
	msgs, want := someBad()
	for i := range msgs {
		msgs[i].NotBefore = soon.Add(time.Duration(i) * time.Millisecond)
	}
	f.publish(tr, msgs...)
	ds := c.receive(len(msgs) - 3)
	f.want(sorted(ids(ds)), sorted(want))
	c.ack(ds...)
	allow()
	f.want(sorted(ids(c.receive(3))), "bad17/1 bad18/1 bad99/1")
}

// sorted puts words in order.
func sorted(words string) string {
	return strings.Join(slices.Sorted(slices.Values(strings.Fields(words))), " ")
}

// orphaned: who published is gone, and who moves the messages when they are due has never used the topic.
func orphaned(f *fixture) {
	tr := f.open("")
	f.publish(tr, delayed("1", time.Now().Add(200*time.Millisecond)))
	if err := tr.Close(); err != nil {
		f.Fatal(err)
	}
	f.subscribe(f.open(""), transport.SubscribeConfig{Topic: Unique("other")})
	f.poll("the message is moved", func() bool { return f.rows(f.T, f.url, f.topic) == 1 })
}
