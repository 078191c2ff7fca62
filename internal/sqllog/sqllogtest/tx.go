package sqllogtest

import (
	"context"
	"database/sql"
	"strings"

	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
)

// nothingHeld works on one connection: while a message is handled, or waits to be tried again, it is free, and no other
// publisher, consumer or observer waits for a lock.
func nothingHeld(f *fixture) {
	f.url = strings.Replace(f.url, "pool_max_conns=4", "pool_max_conns=1", 1)
	tr, other := f.open(""), f.open("")
	c, d := f.subscribe(tr, transport.SubscribeConfig{}), f.subscribe(tr, transport.SubscribeConfig{Group: "h"})
	f.publish(tr, message("1"), message("2"))
	held := c.receive(1)
	for _, id := range []string{"3", "4"} {
		f.publish(tr, message(id))
		f.publish(other, message(id+"'"))
		if _, err := tr.(transport.StatusReporter).Status(f.Context()); err != nil {
			f.Fatal(err)
		}
	}
	ds := d.receive(6)
	d.ack(ds...)
	c.ack(c.receive(5)...)
	c.ack(held...)
}

// rolledBack: what was published within a transaction comes if that commits, and leaves no gap if not.
func rolledBack(f *fixture) {
	tr := f.open("")
	c := f.subscribe(tr, transport.SubscribeConfig{})
	db, err := store.Open(f.Context(), f.url)
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	within := func(id string) *sql.Tx {
		f.Helper()
		tx, err := db.SQL().BeginTx(f.Context(), nil)
		if err != nil {
			f.Fatal(err)
		}
		err = tr.(interface {
			PublishTx(context.Context, store.Execer, string, []transport.Message) error
		}).PublishTx(f.Context(), tx, f.topic, []transport.Message{message(id)})
		if err != nil {
			f.Fatal(err)
		}
		return tx
	}
	for _, err := range []error{within("1").Rollback(), within("2").Commit(), within("3").Rollback()} {
		if err != nil {
			f.Fatal(err)
		}
	}
	f.publish(tr, message("4"))
	ds := c.receive(2)
	f.want(ids(ds), "2/1 4/1")
	c.ack(ds...)
}
