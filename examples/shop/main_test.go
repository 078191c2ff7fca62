package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/examples/shop/intake"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// result is what a run has left.
type result struct {
	status         int
	stdout, stderr string
}

// run runs the program in process, on a clock that does not wait.
func run(t *testing.T, stdin io.Reader, inside []bus.Middleware, args ...string) (r result) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var stdout, stderr bytes.Buffer
		p := program{stdin: stdin, stdout: &stdout, stderr: &stderr, inside: inside}
		r.status = p.run(t.Context(), args)
		r.stdout, r.stderr = stdout.String(), stderr.String()
	})
	return r
}

// expect checks the status, and that each want is in the output or, if it begins with "!", is not.
func (r result) expect(t *testing.T, status int, want ...string) {
	t.Helper()
	all := r.stdout + r.stderr
	if r.status != status {
		t.Errorf("exit status %d, want %d", r.status, status)
	}
	for _, w := range want {
		if not, ok := strings.CutPrefix(w, "!"); ok == strings.Contains(all, strings.TrimPrefix(w, "!")) {
			t.Errorf("the output should say %q: %v", strings.TrimPrefix(w, "!"), not == w)
		}
	}
	if t.Failed() {
		t.Logf("stdout:\n%.4000s\nstderr:\n%.4000s", r.stdout, r.stderr)
	}
}

var spaces = regexp.MustCompile(` +`)

// row returns what the summary says about name.
func (r result) row(name string) string {
	for line := range strings.Lines(r.stdout) {
		if rest, ok := strings.CutPrefix(spaces.ReplaceAllString(strings.TrimSpace(line), " "), name+" "); ok {
			return rest
		}
	}
	return ""
}

// theDay is what the summary of the built-in orders says.
var theDay = map[string]string{
	"lines read": "300", "orders in": "287", "duplicates ignored": "12", "set aside": "1",
	"charged": "286 EUR 30467.45", "declined": "1", "refused": "0 (unknown, or out of stock)", "shipped": "286",
	"customers told": "287", "retried": "1 2 more tries",
}

func TestTheDay(t *testing.T) {
	for _, transport := range []string{"memory:", "memory:?share=true", "memory:?capacity=1"} {
		t.Run(transport, func(t *testing.T) {
			r := run(t, nil, nil, "--transport", transport)
			r.expect(t, exitOK, "The books balance.", "line 157: bus: payload cannot be decoded", `{"id":"o-1150","customer":`)
			for name, want := range theDay {
				if got := r.row(name); got != want {
					t.Errorf("%s: %q, want %q", name, got, want)
				}
			}
		})
	}
}

const (
	one = `{"id":"o-1","customer":"ada@example.com","card":"card-1","items":[{"sku":"cup","quantity":2,"cents":450}]}`
	two = `{"id":"o-2","customer":"bob@example.com","card":"card-2","items":[{"sku":"jug","quantity":1,"cents":1890}]}`
)

// with returns an order with one position.
func with(id, item string) string {
	return `{"id":"` + id + `","customer":"ada@example.com","card":"card-1","items":[` + item + `]}`
}

func TestInput(t *testing.T) {
	long := `{"id":"o-9","customer":"ada@example.com","card":"card-1","items":[{"sku":"cup","quantity":1,"cents":1}],"pad":"`
	for name, tc := range map[string]struct {
		input  string
		status int
		want   []string
	}{
		"nothing":            {"", exitFailed, []string{"there is nothing in standard input"}},
		"empty lines":        {"\n \r\n\n", exitFailed, []string{"there is nothing in standard input"}},
		"no line end":        {one, exitOK, []string{"1 orders, 1 shipped"}},
		"CRLF and BOM":       {"\ufeff" + one + "\r\n" + two + "\r\n", exitOK, []string{"2 orders, 2 shipped", "0 set aside"}},
		"garbage":            {"\x00\xff\x1b[2J\nhello\n", exitFailed, []string{"none of the 2 lines", "!\x1b["}},
		"not an object":      {one + "\nnull\n[]\n7\n", exitOK, []string{"1 orders, 1 shipped", "3 set aside"}},
		"10 MiB, an order":   {long + strings.Repeat("x", 10<<20) + `"}`, exitOK, []string{"1 orders, 1 shipped"}},
		"10 MiB, nothing":    {one + "\n" + strings.Repeat("x", 10<<20), exitOK, []string{"1 set aside", "line 2: bus: payload cannot be decoded"}},
		"longer than a line": {strings.Repeat("x", intake.MaxLine+1) + "\n" + one, exitOK, []string{"line 1: cannot travel: longer than 16 MiB", "1 shipped"}},
		"negative amount":    {one + "\n" + with("o-3", `{"sku":"cup","quantity":1,"cents":-1}`), exitOK, []string{"-1 cents must be", "1 set aside"}},
		"zero quantity":      {one + "\n" + with("o-3", `{"sku":"cup","quantity":0,"cents":1}`), exitOK, []string{"quantity 0 must be", "1 set aside"}},
		"too much of it":     {one + "\n" + with("o-3", `{"sku":"cup","quantity":9223372036854775807,"cents":9}`), exitOK, []string{"must be 1 to 1000"}},
		"no items":           {one + "\n" + with("o-3", ""), exitOK, []string{"0 items", "1 set aside"}},
		"NUL in the id":      {one + "\n" + with(`a\u0000b`, `{"sku":"cup","quantity":1,"cents":1}`), exitOK, []string{`id "a\x00b" must be`}},
		"unknown SKU":        {with("o-3", `{"sku":"yacht","quantity":1,"cents":1}`), exitOK, []string{"1 refused", "!1 shipped"}},
		"out of stock":       {with("o-3", `{"sku":"teapot","quantity":200,"cents":1},{"sku":"teapot","quantity":101,"cents":1}`), exitOK, []string{"1 refused"}},
		"one order twice":    {one + "\n" + one + "\n" + one, exitOK, []string{"1 orders, 1 shipped", "2 duplicates"}},
		"one id, two orders": {one + "\n" + strings.Replace(two, "o-2", "o-1", 1), exitOK, []string{"1 orders, 1 shipped", `order "o-1" is known with another content`}},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, strings.NewReader(tc.input), nil, "--orders", "-").expect(t, tc.status, tc.want...)
		})
	}
}

func TestInputThatBreaksOff(t *testing.T) {
	r := run(t, io.MultiReader(strings.NewReader(one+"\n"), iotest.ErrReader(errors.New("disk on fire"))), nil, "--orders", "-")
	r.expect(t, exitFailed, "FAILED: after line 1: disk on fire", "1 orders, 1 shipped", "The books balance.")
}

func TestLineThatTheTransportRefuses(t *testing.T) {
	r := run(t, strings.NewReader(with("o-3", strings.Repeat(" ", 900))+"\n"+one), nil, "--orders", "-", "--transport", "memory:?max_payload=500")
	r.expect(t, exitOK, "line 1: cannot travel: ", "payload too large", "1 shipped")
}

func TestFlags(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(empty, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args   string
		status int
		want   string
	}{
		{"--help", exitOK, "Usage: shop"},
		{"--orders " + empty, exitOK, "1 shipped"},
		{"--orders " + empty + ".not", exitUsage, "no such file"},
		{"--orders " + t.TempDir(), exitUsage, "is a directory"},
		{"--transport nonsense:", exitUsage, `unknown scheme "nonsense"`},
		{"--transport memory:?size=3", exitUsage, "known: capacity"},
		{"--bogus", exitUsage, "-bogus"},
		{"--patience 0s", exitUsage, "must be positive"},
		{"--patience 5", exitUsage, `invalid value "5" for flag -patience: needs a unit, such as 5s`},
		{"--patience soon", exitUsage, `invalid value "soon" for flag -patience: must be a number with a unit, such as 30s`},
		{"--rate -1", exitUsage, "--rate -1"},
		{"--rate NaN", exitUsage, "--rate NaN"},
		{"more", exitUsage, `unexpected argument "more"`},
	} {
		t.Run(strings.Fields(tc.args)[0], func(t *testing.T) {
			run(t, nil, nil, strings.Fields(tc.args)...).expect(t, tc.status, tc.want)
		})
	}
}

// Whoever waits too short a time is told so, before what is therefore not finished.
func TestPatience(t *testing.T) {
	forgotten := breaking("payments", "orders.payable", func(context.Context, func() error) error { return nil })
	for name, tc := range map[string]struct {
		input io.Reader
		want  string
	}{
		"work": {strings.NewReader(one), "FAILED: patience ran out: nothing has moved for 1ns.\n"},
		"input broken off": {
			io.MultiReader(strings.NewReader(one+"\n"), iotest.ErrReader(errors.New("disk on fire"))),
			"FAILED: patience ran out: nothing has moved for 1ns; and before that: after line 1: disk on fire.\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, tc.input, forgotten, "--orders", "-", "--patience", "1ns")
			r.expect(t, exitFailed, tc.want+"\nTHE BOOKS DO NOT BALANCE:", "came no further than reserved")
		})
	}
}

// full is a disk that has no room left, as /dev/full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatCannotBeWritten(t *testing.T) {
	for name, tc := range map[string]struct {
		args   []string
		stdin  string
		status int
		want   string
	}{
		"summary":              {[]string{"--orders", "-"}, one, exitFailed, "shop: the summary cannot be written: no space left on device\n"},
		"summary of a failure": {[]string{"--orders", "-"}, "what?", exitFailed, "shop: the summary cannot be written: no space left on device\n"},
		"help":                 {[]string{"--help"}, "", exitFailed, "shop: the help cannot be written: no space left on device\n"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var stderr bytes.Buffer
				p := program{stdin: strings.NewReader(tc.stdin), stdout: full{}, stderr: &stderr}
				status := p.run(t.Context(), tc.args)
				result{status: status, stderr: stderr.String()}.expect(t, tc.status, tc.want)
			})
		})
	}
}

func TestRateAndProgress(t *testing.T) {
	r := run(t, nil, nil, "--rate", "50") // 300 lines in 6 seconds
	r.expect(t, exitOK, "The books balance.")
	if n := strings.Count(r.stderr, "lines read:"); n != 3 && n != 4 {
		t.Errorf("%d lines of progress, want one every two seconds and the last:\n%s", n, r.stderr)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		c := newConsole(&out)
		c.terminal = true
		c.progress(tally{lines: 1}, false) // too early
		time.Sleep(progressOnTerminal)
		c.progress(tally{lines: 2}, false)
		_, _ = io.WriteString(c, "log\n")
		c.progress(tally{lines: 3}, true)
		got := regexp.MustCompile(`:[^\n\r]*`).ReplaceAllString(out.String(), "")
		const clear = "\r\x1b[K"
		if want := clear + "2 lines read" + clear + "log\n2 lines read" + clear + "3 lines read\n"; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	})
}

// An interrupt while the input goes on: what was read comes to an end or is told to be open, nothing hangs.
func TestInterrupt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		r, w := io.Pipe()
		var stdout, stderr bytes.Buffer
		status := make(chan int)
		go func() {
			p := program{stdin: r, stdout: &stdout, stderr: &stderr}
			status <- p.run(ctx, []string{"--orders", "-"})
		}()
		_, _ = io.WriteString(w, one+"\n"+two+"\n")
		time.Sleep(time.Minute) // nothing to do is nothing to give up for
		interrupt()
		got := result{status: <-status, stdout: stdout.String(), stderr: stderr.String()}
		got.expect(t, exitInterrupted, "2 orders, 2 shipped", "FAILED: interrupted", "The books balance.")
		_ = w.Close() // nothing else ends the goroutine that reads
	})
}
