package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode"
)

// How often progress is shown: on a terminal, where it is one line that changes, and elsewhere.
const (
	progressOnTerminal = 100 * time.Millisecond
	progressElsewhere  = 2 * time.Second
)

// console is where progress and log lines go, one not across the other.
type console struct {
	mu       sync.Mutex
	out      io.Writer
	terminal bool
	line     string // that stands on the terminal now
	shown    time.Time
	last     tally // that was shown
}

func newConsole(out io.Writer) *console {
	c := &console{out: out, shown: time.Now()}
	if f, ok := out.(*os.File); ok && os.Getenv("TERM") != "dumb" {
		info, err := f.Stat()
		c.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return c
}

// Write implements io.Writer, for the logger.
func (c *console) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.line != "" {
		fmt.Fprint(c.out, "\r\x1b[K")
	}
	n, err := c.out.Write(p)
	if c.line != "" {
		fmt.Fprint(c.out, c.line)
	}
	return n, err
}

// progress shows how far the shop has come, if it is time to; at the end it always is.
func (c *console) progress(t tally, end bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	every := progressElsewhere
	if c.terminal {
		every = progressOnTerminal
	}
	if !end && (t == c.last || time.Since(c.shown) < every) {
		return
	}
	c.shown, c.last = time.Now(), t
	text := fmt.Sprintf("%d lines read: %d orders, %d shipped, %d cancelled, %d duplicates, %d set aside", t.lines, t.orders,
		t.shipped, t.declined+t.unpaid+t.refused, t.submissions-t.orders, t.setAside+t.unfit)
	switch {
	case !c.terminal:
		fmt.Fprintln(c.out, text)
	case end:
		fmt.Fprintf(c.out, "\r\x1b[K%s\n", text)
		c.line = ""
	default:
		fmt.Fprintf(c.out, "\r\x1b[K%s", text)
		c.line = text
	}
}

// euros writes cents as "EUR 1234.56".
func euros(cents int64) string {
	sign := ""
	if cents < 0 {
		sign, cents = "-", -cents
	}
	return fmt.Sprintf("%sEUR %d.%02d", sign, cents/100, cents%100)
}

// oneLine makes a text from outside fit to be shown: no control characters, which could steer a terminal, no line
// breaks, and not too long.
func oneLine(text any) string {
	const most = 160
	s := strings.ToValidUTF8(fmt.Sprint(text), "\ufffd")
	s = strings.ReplaceAll(strings.TrimSpace(s), "\n", "; ")
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\ufffd'
		}
		return r
	}, s)
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most]) + "…"
	}
	return s
}
