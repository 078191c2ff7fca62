package outbox_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/postgres"
	"github.com/postbus/postbus/transport/sqlite"
)

const childVariable = "POSTBUS_OUTBOX_CHILD"

// job is what a child process does until it is killed.
type job struct {
	URL    string
	Prefix string // of the ids of its orders
	Point  string // where it kills itself
	Times  int    // when it comes there so often
	Fault  string // what is done wrong, on purpose
	Tail   bool
}

// What a job can do wrong.
const (
	markFirst  = "messages are marked before the target has them"
	ackFirst   = "messages are acknowledged before the handler has committed"
	noInbox    = "the handler does not know what it has handled"
	dualWrites = "events are published beside the transaction"
)

// child does the work of a child process and exits, if this process is one.
func child() {
	text := os.Getenv(childVariable)
	if text == "" {
		return
	}
	go func() { // not longer than the parent
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	}()
	var j job
	err := json.Unmarshal([]byte(text), &j)
	if err == nil {
		err = j.run(context.Background())
	}
	fmt.Fprintln(os.Stderr, "child:", err)
	os.Exit(1)
}

// run takes orders until the process is killed.
func (j *job) run(ctx context.Context) error {
	s, err := open(ctx, j, j.at)
	if err != nil {
		return err
	}
	var begun sync.Once
	errs := make(chan error)
	for w := range 3 {
		go func() {
			for n := 0; ; n++ {
				if err := s.order(ctx, fmt.Sprintf("%s-%d-%d", j.Prefix, w, n), n%4 == 3); err != nil {
					errs <- err
				}
				begun.Do(func() { fmt.Println("begun") })
				time.Sleep(time.Millisecond << min(n, 8)) // ever more rarely: what a life leaves has to be settled in the end
			}
		}()
	}
	return <-errs
}

// at kills the process if it is time.
func (j *job) at(point string) {
	if point == j.Point && atomic.AddInt64(&seen, 1) == int64(j.Times) {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	}
}

var seen int64

// shop is an application on one database: it takes orders, forwards them to topics of the same database, where they can be
// counted, and handles them.
type shop struct {
	db        *store.DB
	tr        transport.Transport
	box       *outbox.Box
	bus       *bus.Bus
	forwarder *outbox.Forwarder
	point     func(string)
	fault     string
}

// killBatch is ForwarderConfig.Batch of a shop.
const killBatch = 8

func open(ctx context.Context, j *job, point func(string)) (*shop, error) {
	s := &shop{point: point, fault: j.Fault}
	var err error
	if s.db, err = store.Open(ctx, j.URL); err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if s.db.Dialect() == store.Postgres {
		s.tr, err = postgres.New(ctx, s.db, postgres.Config{Logger: log, Retention: -1})
	} else {
		s.tr, err = sqlite.New(ctx, s.db, sqlite.Config{Logger: log, Retention: -1})
	}
	if err != nil {
		return nil, err
	}
	s.box = outbox.New(s.db, outbox.Config{Logger: log})
	s.box.OnPoint(point)
	to := s.tr
	if s.fault == markFirst {
		to = hasty{to}
	}
	if s.forwarder, err = outbox.NewForwarder(s.box, to, outbox.ForwarderConfig{Batch: killBatch, Keep: time.Millisecond, Tail: j.Tail}); err != nil {
		return nil, err
	}
	group := bus.GroupConfig{Workers: 4}
	if s.fault == ackFirst {
		group.Delivery = bus.AtMostOnce
	}
	if s.bus, err = bus.New(bus.Config{Transport: s.tr, Logger: log, Groups: map[string]bus.GroupConfig{"billing": group}}); err != nil {
		return nil, err
	}
	if s.fault == noInbox {
		bus.Handle(s.bus, "billing", s.chargeAgain)
	} else {
		outbox.Handle(s.bus, "billing", s.box, charge)
	}
	if err := s.forwarder.Start(ctx); err != nil {
		return nil, err
	}
	return s, s.bus.Start(ctx)
}

// hasty says that messages are safe, and has them in memory for ever.
type hasty struct{ transport.Transport }

func (hasty) Publish(context.Context, string, []transport.Message) error { return nil }

// order writes an order and publishes it, and commits that or not.
func (s *shop) order(ctx context.Context, id string, cancelled bool) error {
	event := bus.WithID(id, placed{OrderID: id})
	if s.fault == dualWrites {
		if err := s.bus.Publish(ctx, event); err != nil {
			return err
		}
	}
	err := s.box.Tx(ctx, func(tx *outbox.Tx) error {
		if _, err := tx.ExecContext(ctx, tx.Dialect().Bind("INSERT INTO business (id) VALUES (?)"), id); err != nil {
			return err
		}
		if s.fault != dualWrites {
			if err := tx.Publish(ctx, event); err != nil {
				return err
			}
		}
		if cancelled {
			return errCancelled
		}
		return nil
	})
	if cancelled && err == errCancelled {
		s.point("cancelled")
		return nil
	}
	s.point("committed")
	return err
}

var errCancelled = fmt.Errorf("the order is cancelled")

func charge(ctx context.Context, tx *outbox.Tx, e placed) error {
	if _, err := tx.ExecContext(ctx, tx.Dialect().Bind("INSERT INTO charges (id) VALUES (?)"), e.OrderID); err != nil {
		return err
	}
	return tx.Publish(ctx, bus.WithID(e.OrderID+"-paid", paid{e.OrderID}))
}

// chargeAgain is charge without an inbox.
func (s *shop) chargeAgain(ctx context.Context, e placed) error {
	err := s.box.Tx(ctx, func(tx *outbox.Tx) error { return charge(ctx, tx, e) })
	s.point("handled")
	return err
}

func (s *shop) close(ctx context.Context) error {
	if err := s.bus.Stop(ctx); err != nil {
		return err
	}
	if err := s.forwarder.Stop(ctx); err != nil {
		return err
	}
	if err := s.tr.Close(); err != nil {
		return err
	}
	return s.db.Close()
}
