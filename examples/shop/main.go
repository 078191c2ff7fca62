// Shop is a small modular monolith on Postbus: an fx application of modules that know each other only by events, with a
// saga that leads each order through them. A file of orders goes in, and in the end the books of all modules must agree.
// See --help.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"go.uber.org/dig"
	"go.uber.org/fx"

	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/store"
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
	os.Exit(p.run(ctx, os.Args[1:], os.Environ()))
}

// program is main without the process around it.
type program struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	more           fx.Option // of tests that break something; or nil
}

var errInterrupted = errors.New("interrupted")

// look is the time between two looks at how far the shop has come.
const look = 20 * time.Millisecond

// run does the work and returns the exit status.
func (p *program) run(ctx context.Context, args, environ []string) int {
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
	place, err := o.place(environ)
	if err != nil {
		return fail(exitUsage, err)
	}
	defer place.remove()

	con := newConsole(p.stderr)
	if o.describe != "" {
		if err := o.print(p.stdout, shop(place.environ, con)); err != nil {
			return fail(exitFailed, err)
		}
		return exitOK
	}
	d := day{con: con, patience: o.patience}
	parts := []fx.Option{shop(place.environ, con), fx.Populate(&d.db, &d.feed)}
	if p.more != nil {
		parts = append(parts, p.more)
	}
	app := fx.New(parts...)
	if err := app.Err(); err != nil {
		return fail(exitUsage, dig.RootCause(err)) // without the way that fx took to it
	}
	start, cancel := context.WithTimeout(ctx, app.StartTimeout())
	defer cancel()
	if err := app.Start(start); err != nil {
		return fail(exitUsage, err)
	}
	began := time.Now()
	d.feed.Pace = o.pace()
	unfinished := d.work(ctx, app, input)
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), app.StopTimeout())
	defer cancel()
	if err := app.Stop(stop); unfinished == nil {
		unfinished = err
	}

	// The auditor comes when the shop is closed, and has nothing but the database.
	e := ending{place: place.String(), took: time.Since(began), interrupted: unfinished == errInterrupted}
	if err := e.audit(context.WithoutCancel(ctx), place.store); err != nil {
		return fail(exitFailed, err)
	}
	con.progress(e.tally, true)
	switch {
	case unfinished != nil && e.lines == 0 && !e.interrupted:
		return fail(exitUsage, fmt.Errorf("%s: %w", name, unfinished))
	case unfinished != nil:
		e.problem = unfinished.Error()
	case e.lines == 0:
		return fail(exitFailed, fmt.Errorf("there is nothing in %s", name))
	case e.orders == 0:
		e.problem = fmt.Sprintf("none of the %d lines in %s is an order", e.lines, name)
	}
	if err := e.summarize(p.stdout); err != nil {
		return fail(exitFailed, err)
	}
	switch {
	case e.interrupted:
		return exitInterrupted
	case e.problem != "" || len(e.faults) > 0:
		return exitFailed
	}
	return exitOK
}

// day is a day of the running shop.
type day struct {
	db       *store.DB
	feed     *intake.Feed
	con      *console
	patience time.Duration
}

// work feeds the shop and returns when all of what it was fed is settled. The error says why it is not.
func (d *day) work(ctx context.Context, app *fx.App, input io.Reader) error {
	feeding, cancel := context.WithCancel(ctx)
	fed := make(chan error, 1)
	go func() { fed <- d.feed.Run(feeding, input) }()
	reading := true
	defer func() {
		cancel()
		if reading {
			<-fed
		}
	}()
	ticker := time.NewTicker(look)
	defer ticker.Stop()
	var last tally
	var failed error
	moved := time.Now()
	for {
		select {
		case <-ctx.Done():
			return errInterrupted
		case s := <-app.Wait():
			if s.ExitCode == 0 { // a signal, which the application hears as well
				return errInterrupted
			}
			return fmt.Errorf("the application has ended by itself, with exit code %d", s.ExitCode)
		case failed = <-fed:
			reading = false // what was read before a failure is to come to its end all the same
		case <-ticker.C:
		}
		now, err := count(ctx, d.db)
		switch {
		case ctx.Err() != nil:
			return errInterrupted
		case err != nil:
			return err
		}
		d.con.progress(now, false)
		settled := now.settled()
		switch {
		case settled && !reading:
			return failed
		case settled || now != last: // what is settled waits for input, and does so for as long as it takes
			last, moved = now, time.Now()
		case time.Since(moved) >= d.patience:
			err := fmt.Errorf("patience ran out: nothing has moved for %v", d.patience)
			if failed != nil {
				err = fmt.Errorf("%w; and before that: %w", err, failed)
			}
			return err
		}
	}
}
