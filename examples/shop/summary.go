package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/postbus/postbus/examples/shop/orders"
)

// ending says how the work ended, for the summary.
type ending struct {
	transport   string
	took        time.Duration
	problem     string // why it is no success, besides the faults; empty if there is nothing
	interrupted bool   // the faults are then what is still open
	faults      []string
}

// mostShown is how many entries of a list the summary shows.
const mostShown = 20

// summarize writes what a person wants to know in the end. The error is that of writing it.
func summarize(out io.Writer, b *books, t tally, e ending) error {
	w := &bytes.Buffer{}
	tell(w, b, t, e)
	if _, err := w.WriteTo(out); err != nil {
		return fmt.Errorf("the summary cannot be written: %w", err)
	}
	return nil
}

func tell(w *bytes.Buffer, b *books, t tally, e ending) {
	state := map[orders.State]int{}
	var open int
	for _, o := range b.Orders.Orders {
		if state[o.State]++; !o.State.Final() {
			open++
		}
	}
	var charged int64
	cards, mails := 0, len(b.Notifications)
	for _, o := range b.Payments {
		if charged += o.Cents; !o.Declined {
			cards++
		}
	}
	row := func(name string, n int, more string, args ...any) {
		fmt.Fprintf(w, "  %-20s %6d", name, n)
		if more != "" {
			fmt.Fprintf(w, "   "+more, args...)
		}
		fmt.Fprintln(w)
	}
	fmt.Fprintf(w, "\nThe shop worked for %v, on the transport %s\n\n", e.took.Round(time.Millisecond), e.transport)
	row("lines read", b.Lines, "")
	row("orders in", len(b.Orders.Orders), "")
	row("duplicates ignored", b.Orders.Duplicates, "")
	row("set aside", len(b.SetAside), "")
	fmt.Fprintln(w)
	row("charged", cards, "%s", euros(charged))
	row("declined", state[orders.Declined], "")
	row("refused", state[orders.Refused], "(unknown, or out of stock)")
	row("shipped", state[orders.Shipped], "")
	row("customers told", mails, "")
	row("retried", t.retried, "%d more tries", t.tries)
	if open > 0 {
		row("not finished", open, "")
	}
	if len(b.SetAside) > 0 {
		fmt.Fprintln(w, "\nSet aside:")
		for i, a := range b.SetAside {
			if i == mostShown {
				fmt.Fprintf(w, "  … and %d more\n", len(b.SetAside)-i)
				break
			}
			where := "order " + a.Key
			if a.Line != 0 {
				where = fmt.Sprintf("line %d", a.Line)
			}
			fmt.Fprintf(w, "  %s: %s\n      %s\n", where, oneLine(a.Reason), oneLine(cut(a.Text)))
		}
	}
	if e.problem != "" {
		fmt.Fprintf(w, "\nFAILED: %s.\n", e.problem)
	}
	switch {
	case len(e.faults) == 0:
		fmt.Fprintln(w, "\nThe books balance.")
		return
	case e.interrupted:
		fmt.Fprintln(w, "\nStill open:")
	default:
		fmt.Fprintln(w, "\nTHE BOOKS DO NOT BALANCE:")
	}
	for i, fault := range e.faults {
		if i == mostShown {
			fmt.Fprintf(w, "  … and %d more\n", len(e.faults)-i)
			break
		}
		fmt.Fprintf(w, "  %s\n", fault)
	}
}

// cut keeps as much of a payload as can be shown: it may have many megabytes.
func cut(text []byte) string {
	const most = 1 << 10
	if len(text) > most {
		return string(text[:most]) + "…"
	}
	return string(text)
}
