package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"time"

	"github.com/postbus/postbus/store"
)

// ending is how the work ended, and what the books say about it.
type ending struct {
	tally
	place       string
	took        time.Duration
	problem     string // why it is no success, besides the faults; empty if there is nothing
	interrupted bool   // the faults are then what is still open
	faults      []string
	setAside    []setAside
}

// audit reads the books.
func (e *ending) audit(ctx context.Context, url string) (err error) {
	db, err := store.Open(ctx, url)
	if err != nil {
		return err
	}
	defer db.Close()
	if e.tally, err = count(ctx, db); err != nil {
		return err
	}
	if e.setAside, err = listAside(ctx, db); err != nil {
		return err
	}
	for _, s := range e.setAside {
		if s.line == 0 {
			e.faults = append(e.faults, s.String())
		}
	}
	found, err := audit(ctx, db)
	e.faults = append(e.faults, found...)
	if accounted := e.submissions + e.tally.setAside + e.unfit; accounted != e.lines {
		e.faults = append(e.faults, fmt.Sprintf("%d lines were read, and %d are accounted for: %d are orders, %d set aside, %d could not travel",
			e.lines, accounted, e.submissions, e.tally.setAside, e.unfit))
	}
	return err
}

// mostShown is how many entries of a list the summary shows.
const mostShown = 20

// summarize writes what a person wants to know in the end. The error is that of writing it.
func (e *ending) summarize(out io.Writer) error {
	w := &bytes.Buffer{}
	row := func(name string, n int, more string) { fmt.Fprintf(w, "  %-20s %6d%s\n", name, n, more) }
	fmt.Fprintf(w, "\nThe shop worked for %v, %s:\n\n", e.took.Round(time.Millisecond), e.place)
	row("lines read", e.lines, "")
	row("orders in", e.orders, "")
	row("duplicates ignored", e.submissions-e.orders, "")
	row("set aside", e.tally.setAside+e.failed+e.unfit, "")
	fmt.Fprintln(w)
	row("shipped", e.shipped, "")
	row("out of stock", e.refused, "")
	row("card declined", e.declined, "")
	row("never paid", e.unpaid, "")
	row("charged", e.charged, "   "+euros(e.cents))
	row("customers told", e.mails, "")
	row("retried", e.retried, fmt.Sprintf("   %d more tries", e.retries))
	if e.placed > 0 {
		row("not finished", e.placed, "")
	}
	list(w, "Set aside", e.setAside, e.tally.setAside+e.failed+e.unfit)
	if e.problem != "" {
		fmt.Fprintf(w, "\nFAILED: %s.\n", e.problem)
	}
	switch {
	case len(e.faults) == 0:
		fmt.Fprintln(w, "\nThe books balance.")
	case e.interrupted:
		list(w, "Still open", e.faults, len(e.faults))
	default:
		list(w, "THE BOOKS DO NOT BALANCE", e.faults, len(e.faults))
	}
	if _, err := w.WriteTo(out); err != nil {
		return fmt.Errorf("the summary cannot be written: %w", err)
	}
	return nil
}

// list writes the first entries of all there are.
func list[T any](w io.Writer, title string, entries []T, all int) {
	if len(entries) > 0 {
		fmt.Fprintf(w, "\n%s:\n", title)
	}
	for i, e := range entries {
		if i == mostShown {
			fmt.Fprintf(w, "  … and %d more\n", all-i)
			break
		}
		fmt.Fprintf(w, "  %v\n", e)
	}
}
