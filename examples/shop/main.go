// Shop is a small modular monolith on Postbus. Five modules, each in a package of its own, know each other only by
// events; a file of orders goes in, and in the end the books of all modules must agree. See --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

// Exit statuses.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2
	exitInterrupted = 130
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	p := program{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr}
	os.Exit(p.run(ctx, os.Args[1:]))
}

// program is main without the process around it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	inside         []bus.Middleware // runs around each try of each handler, for tests that break something
}

var errInterrupted = errors.New("interrupted")

const (
	// look is the time between two looks at how far the shop has come.
	look = 10 * time.Millisecond
	// drain bounds the time for handlers to finish in the end.
	drain = 10 * time.Second
)

// run does the work and returns the exit status.
func (p *program) run(ctx context.Context, args []string) int {
	o, status, done := parse(args, p.stdout, p.stderr)
	if done {
		return status
	}
	fail := func(status int, err error) int {
		fmt.Fprintf(p.stderr, "shop: %v\n", err)
		return status
	}
	input, name, err := o.input(p.stdin)
	if err != nil {
		return fail(exitUsage, err)
	}
	defer input.Close()
	t, err := transport.Open(ctx, o.transport)
	if err != nil {
		return fail(exitUsage, err)
	}
	defer t.Close()
	con := newConsole(p.stderr)
	s, b, err := open(t, con, p.inside)
	if err != nil {
		return fail(exitUsage, err)
	}
	if err := b.Start(ctx); err != nil {
		return fail(exitUsage, err)
	}
	feed := s.feed(b)
	feed.Pace = o.pace()
	began := time.Now()
	unfinished := work(ctx, s, con, o.patience, func(ctx context.Context) error { return feed.Run(ctx, input) })
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	stopped := b.Stop(stop)

	last, all := s.tally(), s.books()
	con.progress(last, true)
	e := ending{transport: o.transport, took: time.Since(began), faults: all.faults(), interrupted: unfinished == errInterrupted}
	switch {
	case unfinished != nil && all.Lines == 0 && !e.interrupted:
		return fail(exitUsage, fmt.Errorf("%s: %w", name, unfinished))
	case unfinished != nil:
		e.problem = unfinished.Error()
	case all.Lines == 0:
		return fail(exitFailed, fmt.Errorf("there is nothing in %s", name))
	case len(all.Orders.Orders) == 0:
		e.problem = fmt.Sprintf("none of the %d lines in %s is an order", all.Lines, name)
	case stopped != nil:
		e.problem = stopped.Error()
	}
	switch {
	case e.interrupted:
		status = exitInterrupted
	case e.problem != "" || len(e.faults) > 0:
		status = exitFailed
	}
	if err := summarize(p.stdout, &all, last, e); err != nil {
		return fail(max(status, exitFailed), err)
	}
	return status
}

// open makes the shop and its bus.
func open(t transport.Transport, log io.Writer, inside []bus.Middleware) (*shop, *bus.Bus, error) {
	s := &shop{}
	cfg := bus.Config{
		Name:      "shop",
		Transport: t,
		Logger:    slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
	s.configure(&cfg)
	cfg.Middleware = append(cfg.Middleware, inside...)
	b, err := bus.New(cfg)
	if err != nil {
		return nil, nil, err
	}
	s.build(b)
	s.wire(b)
	return s, b, nil
}

// work feeds the shop and returns when all of what it was fed is settled. The error says why it is not.
func work(ctx context.Context, s *shop, con *console, patience time.Duration, feed func(context.Context) error) error {
	feeding, cancel := context.WithCancel(ctx)
	defer cancel()
	fed := make(chan error, 1)
	go func() { fed <- feed(feeding) }()

	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var last tally
	var failed error
	moved, reading := time.Now(), true
	for {
		select {
		case <-ctx.Done():
			if reading {
				<-fed
			}
			return errInterrupted
		case failed = <-fed:
			reading = false // what was read before a failure is to come to its end all the same
			if failed != nil && ctx.Err() != nil {
				return errInterrupted
			}
		case <-ticker.C:
		}
		now := s.tally()
		con.progress(now, false)
		settled := now.settled()
		switch {
		case settled && !reading:
			return failed
		case settled || now != last: // what is settled waits for input, and does so for as long as it takes
			last, moved = now, time.Now()
		case time.Since(moved) >= patience:
			cancel()
			if reading {
				<-fed
			}
			err := fmt.Errorf("patience ran out: nothing has moved for %v", patience)
			if failed != nil {
				err = fmt.Errorf("%w; and before that: %w", err, failed)
			}
			return err
		}
	}
}
