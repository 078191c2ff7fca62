package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/examples/shop/intake"
	"github.com/postbus/postbus/store"
)

// result is what a run has left.
type result struct {
	status         int
	stdout, stderr string
}

// impatient has what fails again and again go into quarantine soon.
var impatient = []string{"POSTBUS_POLICY__ATTEMPTS=2"}

// unhurried stands before the flags of a run, which may say another time: a machine on which nothing moves may be slow.
var unhurried = []string{"--patience", "5m"}

// run runs the program as a process of its own, which the race detector does not slow down.
func run(t *testing.T, stdin string, args ...string) (r result) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), built(t), slices.Concat(unhurried, args)...)
	cmd.Env = append(os.Environ(), impatient...)
	cmd.Stdin = strings.NewReader(stdin)
	return finish(t, cmd)
}

// finish runs a command to its end.
func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return result{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// runInside runs the program in process, with more in the application.
func runInside(t *testing.T, stdin io.Reader, more fx.Option, args ...string) (r result) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	p := program{stdin: stdin, stdout: &stdout, stderr: &stderr, more: more}
	r.status = p.run(t.Context(), slices.Concat(unhurried, args), impatient)
	r.stdout, r.stderr = stdout.String(), stderr.String()
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

// says reports whether all of want is in the output.
func (r result) says(want ...string) bool {
	for _, w := range want {
		if !strings.Contains(r.stdout+r.stderr, w) {
			return false
		}
	}
	return true
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
	"shipped": "285", "out of stock": "0", "card declined": "1", "never paid": "1",
	"charged": "285 EUR 30608.25", "customers told": "287", "retried": "1 2 more tries",
}

// expectTheDay checks the summary of the built-in orders, but for the tries: one that is killed is one more.
func (r result) expectTheDay(t *testing.T) {
	t.Helper()
	r.expect(t, exitOK, "The books balance.", "line 156: bus: payload cannot be decoded", `{"id":"o-1150","customer":`)
	for name, want := range theDay {
		if got := r.row(name); got != want && name != "retried" {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestTheApplicationIsValid(t *testing.T) {
	t.Parallel()
	p, err := (&options{}).place(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.remove()
	if err := fx.ValidateApp(shop(p.environ, io.Discard)); err != nil {
		t.Error(err)
	}
}

const (
	one    = `{"id":"o-1","customer":"ada@example.com","card":"card-1","items":[{"sku":"cup","quantity":2,"cents":450}]}`
	two    = `{"id":"o-2","customer":"bob@example.com","card":"card-2","items":[{"sku":"jug","quantity":1,"cents":1890}]}`
	silent = `{"id":"o-5","customer":"bob@example.com","card":"card-silent","items":[{"sku":"jug","quantity":1,"cents":1890}]}`
)

// with returns an order with one position.
func with(id, item string) string {
	return `{"id":"` + id + `","customer":"ada@example.com","card":"card-1","items":[` + item + `]}`
}

// A day with the same file goes on where the last one ended: all is known, and all is said again.
func TestTheSameFileAgain(t *testing.T) {
	t.Parallel()
	url := "sqlite:" + filepath.Join(t.TempDir(), "shop.db") + "?synchronous=off"
	want := []string{"2 orders, 2 shipped, 0 cancelled, 1 duplicates, 1 set aside", "line 4: ", "The books balance.", "in " + url}
	for range 2 {
		run(t, one+"\n"+two+"\n"+one+"\n{", "--orders", "-", "--transport", url).expect(t, exitOK, want...)
	}
	r := run(t, with("o-3", `{"sku":"cup","quantity":1,"cents":1}`), "--orders", "-", "--transport", url)
	r.expect(t, exitOK, "5 lines read: 3 orders, 3 shipped")
}

func TestInput(t *testing.T) {
	t.Parallel()
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
		"unknown SKU":        {with("o-3", `{"sku":"yacht","quantity":1,"cents":1}`), exitOK, []string{"1 cancelled", "0 shipped", "out of stock              1"}},
		"out of stock":       {with("o-3", `{"sku":"teapot","quantity":200,"cents":1},{"sku":"teapot","quantity":101,"cents":1}`), exitOK, []string{"out of stock              1"}},
		"one order twice":    {one + "\n" + one + "\n" + one, exitOK, []string{"1 orders, 1 shipped", "2 duplicates"}},
		"one id, two orders": {one + "\n" + strings.Replace(two, "o-2", "o-1", 1), exitOK, []string{"1 orders, 1 shipped", `order "o-1" is known with another content`}},
		"never confirmed":    {silent + "\n" + one, exitOK, []string{"2 orders, 1 shipped, 1 cancelled", "never paid                1"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, tc.input, "--orders", "-").expect(t, tc.status, tc.want...)
		})
	}
}

func TestInputThatBreaksOff(t *testing.T) {
	t.Parallel()
	r := runInside(t, io.MultiReader(strings.NewReader(one+"\n"), iotest.ErrReader(errors.New("disk on fire"))), nil, "--orders", "-")
	r.expect(t, exitFailed, "FAILED: after line 1: disk on fire", "1 orders, 1 shipped", "The books balance.")
}

func TestFlags(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(one), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		args   string
		status int
		want   string
	}{
		{"--help", exitOK, "Usage: shop"},
		{"--orders " + file, exitOK, "shipped                   1"},
		{"--orders " + file + ".not", exitUsage, "no such file"},
		{"--orders " + t.TempDir(), exitUsage, "is a directory"},
		{"--transport nonsense:", exitUsage, `shop: config:` + "\n\t" + `POSTBUS_TRANSPORT: transport: unsupported: unknown scheme "nonsense"`},
		{"--transport sqlite:/no/such/folder/shop.db", exitUsage, "shop: config: store: open sqlite:/no/such/folder/shop.db: "},
		{"--transport memory:?size=3", exitUsage, "known: capacity"},
		{"--bogus", exitUsage, "-bogus"},
		{"--patience 0s", exitUsage, "must be positive"},
		{"--patience 5", exitUsage, `invalid value "5" for flag -patience: needs a unit, such as 5s`},
		{"--patience soon", exitUsage, `invalid value "soon" for flag -patience: must be a number with a unit, such as 30s`},
		{"--describe prose", exitUsage, `"prose" must be mermaid or asyncapi`},
		{"--rate -1", exitUsage, "--rate -1"},
		{"--rate NaN", exitUsage, "--rate NaN"},
		{"more", exitUsage, `unexpected argument "more"`},
	} {
		t.Run(strings.Fields(tc.args)[0], func(t *testing.T) {
			t.Parallel()
			run(t, "", strings.Fields(tc.args)...).expect(t, tc.status, tc.want)
		})
	}
}

// full is a disk that has no room left, as /dev/full.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, syscall.ENOSPC }

func TestOutputThatCannotBeWritten(t *testing.T) {
	t.Parallel()
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
			t.Parallel()
			var stderr bytes.Buffer
			p := program{stdin: strings.NewReader(tc.stdin), stdout: full{}, stderr: &stderr}
			status := p.run(t.Context(), tc.args, nil)
			result{status: status, stderr: stderr.String()}.expect(t, tc.status, tc.want)
		})
	}
}

func TestRateAndProgress(t *testing.T) {
	t.Parallel()
	var input []string
	for _, id := range strings.Fields("a b c d e") {
		input = append(input, with(id, `{"sku":"cup","quantity":1,"cents":1}`))
	}
	began := time.Now()
	r := run(t, strings.Join(input, "\n"), "--orders", "-", "--rate", "2") // 5 lines in 2.5 seconds
	r.expect(t, exitOK, "The books balance.")
	if took := time.Since(began); took < 2*time.Second {
		t.Errorf("it took %v, want at least 2s", took)
	}
	if n := strings.Count(r.stderr, "lines read:"); n < 2 {
		t.Errorf("%d lines of progress, want one every two seconds and the last:\n%s", n, r.stderr)
	}
}

func TestProgressOnATerminal(t *testing.T) {
	t.Parallel()
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

// lockedBuffer is written by the program while the test reads it.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// An interrupt while the input goes on: what was read comes to an end or is told to be open, nothing hangs.
func TestInterrupt(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	r, w := io.Pipe()
	var stdout bytes.Buffer
	var stderr lockedBuffer
	books := sqliteFile(t)
	status := make(chan int)
	go func() {
		p := program{stdin: r, stdout: &stdout, stderr: &stderr}
		status <- p.run(ctx, []string{"--orders", "-", "--transport", books}, nil)
	}()
	_, _ = io.WriteString(w, one+"\n"+two+"\n")
	for deadline := time.Now().Add(time.Minute); !strings.Contains(stderr.String(), "2 orders, 2 shipped"); { // nothing to do is nothing to give up for
		if time.Now().After(deadline) {
			t.Fatal("no progress is shown")
		}
		time.Sleep(10 * time.Millisecond)
	}
	untilSettled(t, books, 2) // of what is shipped, the mail may not have gone out yet
	interrupt()
	got := result{status: <-status, stdout: stdout.String(), stderr: stderr.String()}
	got.expect(t, exitInterrupted, "2 orders, 2 shipped", "FAILED: interrupted", "The books balance.")
	_ = w.Close() // nothing else ends the goroutine that reads
}

// untilSettled waits until so many lines have come to their end.
func untilSettled(t *testing.T, url string, lines int) {
	t.Helper()
	db, err := store.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		now, err := count(t.Context(), db)
		if err == nil && now.lines == lines && now.settled() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not settled: %+v, %v", now, err)
		}
	}
}
