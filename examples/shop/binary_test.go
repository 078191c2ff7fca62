package main

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The program as its users start it: built, with a real clock, real files and real signals.
func TestBinary(t *testing.T) {
	t.Parallel()
	t.Run("the day", func(t *testing.T) {
		t.Parallel()
		r := run(t, "")
		r.expectTheDay(t)
		r.expect(t, exitOK, ", in a temporary file:")
		if got := r.row("retried"); got != theDay["retried"] {
			t.Errorf("retried: %q, want %q", got, theDay["retried"])
		}
	})

	t.Run("describe", func(t *testing.T) {
		t.Parallel()
		want, err := os.ReadFile("diagram.mmd")
		if err != nil {
			t.Fatal(err)
		}
		if r := run(t, "", "--describe", "mermaid"); r.status != exitOK || r.stdout != string(want) {
			t.Errorf("exit status %d; it describes\n%s\nand diagram.mmd\n%s", r.status, r.stdout, want)
		}
	})

	t.Run("full disk", func(t *testing.T) {
		t.Parallel()
		disk, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("this system has no /dev/full")
		}
		defer disk.Close()
		cmd := exec.CommandContext(t.Context(), built(t), "--orders", "-")
		var stderr bytes.Buffer
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(one), disk, &stderr
		_ = cmd.Run()
		result{cmd.ProcessState.ExitCode(), "", stderr.String()}.expect(t, exitFailed, "shop: the summary cannot be written: ")
	})

	t.Run("Ctrl-C", func(t *testing.T) {
		t.Parallel()
		books := sqliteFile(t)
		cmd := exec.CommandContext(t.Context(), built(t), "--orders", "-", "--transport", books)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		progress, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		var stdout bytes.Buffer
		cmd.Stdout = &stdout
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte(one + "\n" + two + "\n")); err != nil {
			t.Fatal(err)
		}
		// The input stays open, so that it is not done when all is shipped.
		lines := bufio.NewScanner(progress)
		for lines.Scan() && !strings.Contains(lines.Text(), "2 shipped") {
		}
		untilSettled(t, books, 2) // of what is shipped, the mail may not have gone out yet
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		for lines.Scan() {
		}
		_ = cmd.Wait()
		result{cmd.ProcessState.ExitCode(), stdout.String(), ""}.expect(t, exitInterrupted, "FAILED: interrupted", "shipped                   2", "The books balance.")
		if took := time.Since(began); took > time.Minute {
			t.Errorf("it took %v to end", took)
		}
	})
}
