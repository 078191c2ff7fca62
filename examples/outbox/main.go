// Outbox is a service that takes orders over HTTP into one database, publishes them to a broker or another database, and
// charges each of them once, whatever dies when.
//
//	go run ./examples/outbox -store sqlite:orders.db -transport amqp://localhost
//	curl -d id=o-1 -d cents=1999 localhost:8080/orders
//	curl localhost:8080/books
//
// The test kills it in a loop, and then proves the books.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"net/http"
	"os/signal"
	"syscall"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/memory" // the schemes
	_ "github.com/postbus/postbus/transport/mysql"
	_ "github.com/postbus/postbus/transport/postgres"
	_ "github.com/postbus/postbus/transport/rabbitmq"
	_ "github.com/postbus/postbus/transport/sqlite"
)

type options struct {
	listen, store, transport string
	lease                    time.Duration
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "localhost:8080", "where to take orders")
	flag.StringVar(&o.store, "store", "sqlite:orders.db", "URL of the database: sqlite:, postgres: or mysql:")
	flag.StringVar(&o.transport, "transport", "memory:", "URL of what carries the events; what memory: has in hand dies with the process")
	flag.DurationVar(&o.lease, "lease", defaultLease, "for how long a forwarder that has died keeps its place")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		log.Fatal(err)
	}
}

const defaultLease = 7 * time.Second

func run(ctx context.Context, o options) (err error) {
	db, err := store.Open(ctx, o.store)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	t, err := transport.Open(ctx, o.transport)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Close()) }()
	box := outbox.New(db, outbox.Config{})
	s := &service{db: db, box: box}
	if err := s.prepare(ctx); err != nil {
		return err
	}
	forwarder, err := outbox.NewForwarder(box, t, outbox.ForwarderConfig{Lease: o.lease})
	if err != nil {
		return err
	}
	b, err := bus.New(bus.Config{Name: "orders", Transport: t})
	if err != nil {
		return err
	}
	outbox.Handle(b, "billing", box, charge)
	if err := b.Start(ctx); err != nil {
		return err
	}
	if err := forwarder.Start(ctx); err != nil {
		return errors.Join(err, b.Stop(context.WithoutCancel(ctx)))
	}
	server := &http.Server{Addr: o.listen, Handler: s.routes()}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()
	select {
	case err = <-failed:
	case <-ctx.Done():
	}
	// Who makes events stops before who brings them away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return errors.Join(err, server.Shutdown(ctx), b.Stop(ctx), forwarder.Stop(ctx))
}
