package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// program runs the tool as a shell would.
type program struct {
	t       *testing.T
	environ []string
	stdin   string
}

func (p program) run(args ...string) (code int, stdout, stderr string) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	var out, errs bytes.Buffer
	code = execute(ctx, args, &call{environ: p.environ, stdin: strings.NewReader(p.stdin), stdout: &out, stderr: &errs})
	return code, out.String(), errs.String()
}

// ok returns what a command prints that must succeed.
func (p program) ok(args ...string) string {
	p.t.Helper()
	code, out, errs := p.run(args...)
	if code != exitOK {
		p.t.Fatalf("postbus %q: exit code %d: %s", args, code, errs)
	}
	return out
}

// fails runs a command that must end with a code, and say all of texts.
func (p program) fails(code int, texts []string, args ...string) {
	p.t.Helper()
	got, out, errs := p.run(args...)
	if got != code || out != "" {
		p.t.Errorf("postbus %q: exit code %d, want %d; it printed %q and %q", args, got, code, out, errs)
	}
	for _, text := range texts {
		if !strings.Contains(errs, text) {
			p.t.Errorf("postbus %q: no %q in %q", args, text, errs)
		}
	}
}

// objects decodes what a command printed with --json.
func objects[T any](t *testing.T, out string) (list []T) {
	t.Helper()
	for line := range strings.Lines(out) {
		var v T
		d := json.NewDecoder(strings.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&v); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, v)
	}
	return list
}

func TestHelp(t *testing.T) {
	t.Parallel()
	p := program{t: t}
	all := p.ok("help")
	if all != p.ok("--help") {
		t.Error("help and --help differ")
	}
	for _, of := range commands {
		cmd := of()
		if !strings.Contains(all, cmd.name) {
			t.Errorf("%s is not in the list:\n%s", cmd.name, all)
		}
		words := strings.Fields(cmd.name)
		help := p.ok(append([]string{"help"}, words...)...)
		if help != p.ok(append(slices.Clone(words), "--help")...) {
			t.Errorf("help of %s and its --help differ", cmd.name)
		}
		if len(cmd.examples) == 0 || !strings.Contains(help, "postbus "+cmd.name) {
			t.Errorf("no example of %s:\n%s", cmd.name, help)
		}
		for line := range strings.Lines(help) {
			if len(line) > 130 {
				t.Errorf("a long line in the help of %s: %s", cmd.name, line)
			}
		}
		for _, e := range cmd.examples { // each is a call that is understood, as far as its flags go
			if !strings.Contains(e, cmd.name) {
				t.Errorf("the example %q is not one of %s", e, cmd.name)
			}
		}
	}
	if family := p.ok("help", "config"); !strings.Contains(family, "config check") || strings.Contains(family, "groups") {
		t.Error(family)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	p := program{t: t}
	for _, tc := range []struct {
		says string
		args []string
	}{
		{"which command?", nil},
		{`unknown command "gruops"`, []string{"gruops"}},
		{`unknown command "gruops"`, []string{"help", "gruops"}},
		{"postbus config what?", []string{"config"}},
		{`unknown command "config chekc"`, []string{"config", "chekc"}},
		{"config check takes FILE, and got 0", []string{"config", "check"}},
		{"config check takes FILE, and got 2", []string{"config", "check", "a", "b"}},
		{"config schema takes no arguments, and got 1", []string{"config", "schema", "x"}},
		{"flag provided but not defined: -lag", []string{"groups", "--lag"}},
		{"which transport?", []string{"groups"}},
		{"the transport memory: lives within one process", []string{"groups", "--transport", "memory:"}},
		{"the transport sqlite::memory: lives within one process", []string{"groups", "--transport", "sqlite::memory:"}},
		{"the database sqlite::memory: lives within one process", []string{"saga", "list", "--store", "sqlite::memory:"}},
		{"neither now, nor beginning", []string{"tail", "orders", "--from", "yesterday"}},
		{"must be KEY=VALUE", []string{"send", "orders.placed", "--meta", "x"}},
		{"must not be negative", []string{"send", "orders.placed", "--after", "-1s"}},
	} {
		p.fails(exitUsage, []string{tc.says}, tc.args...)
	}
	p.fails(exitFailure, []string{`unknown scheme "kafka"`}, "groups", "--transport", "kafka://mq")
	p.fails(exitFailure, []string{"no_such"}, "groups", "--config", "no_such.yaml")
}

// TestFileThatIsMissing: a misspelt name must not look like a file in which all is well, and makes none.
func TestFileThatIsMissing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "shpo.db")
	p := program{t: t}
	for _, args := range [][]string{
		{"groups", "--transport"}, {"tail", "orders", "--transport"}, {"send", "orders.placed", "--transport"},
		{"quarantine", "list", "--store"}, {"quarantine", "discard", "--all", "--store"}, {"saga", "list", "--store"},
	} {
		p.fails(exitFailure, []string{"sqlite:" + file + " is not there"}, append(args, "sqlite:"+file+"?busy_timeout=1s")...)
	}
	if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a command has made the file: %v", err)
	}
}

// TestTheBinary is what a shell sees.
func TestTheBinary(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "postbus")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for code, args := range [][]string{exitOK: {"help"}, exitFailure: {"config", "check", "no_such.yaml"}, exitUsage: {"gruops"}} {
		cmd := exec.CommandContext(t.Context(), binary, args...)
		if _ = cmd.Run(); cmd.ProcessState.ExitCode() != code {
			t.Errorf("%q: exit code %d, want %d", args, cmd.ProcessState.ExitCode(), code)
		}
	}
}

func TestEscape(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"grün":                     "grün",
		"\x1b[2J\x07":              `\x1b[2J\a`,
		"a\nb\tc":                  `a\nb\tc`,
		"\u009b1m":                 `\u009b1m`,
		"user\u202egnp.exe":        `user\u202egnp.exe`,
		"\xff\xfe":                 `\xff\xfe`,
		"\ufffd":                   "\ufffd",
		"\u2028 \U000e0001":        `\u2028 \U000e0001`,
		`a quote " and \x1b as is`: `a quote " and \x1b as is`,
	} {
		if got := escape(in); got != want {
			t.Errorf("%q became %s, want %s", in, got, want)
		}
	}
	if got := escapeLines("a\nb\tc\x1b"); got != "a\nb\tc\\x1b" {
		t.Errorf("lines became %q", got)
	}
	var out bytes.Buffer
	c := &call{stdout: &out}
	if err := c.printJSON(message{ID: "\x1b\u009b\u202e", Payload: "x"}); err != nil {
		t.Fatal(err)
	}
	if strings.ContainsAny(out.String(), "\x1b\u009b\u202e") {
		t.Errorf("JSON holds control characters: %q", out.String())
	}
	if got := objects[message](t, out.String()); got[0].ID != "\x1b\u009b\u202e" {
		t.Errorf("JSON became %+v", got)
	}
}

func TestAge(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Microsecond: "2ms", 2300 * time.Millisecond: "2.3s", 90 * time.Second: "1m30s",
		100 * time.Minute: "1h40m", 50 * time.Hour: "2d2h",
	} {
		if got := age(d); got != want {
			t.Errorf("%v became %s, want %s", d, got, want)
		}
	}
}
