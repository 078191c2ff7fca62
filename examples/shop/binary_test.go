package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The program as its users start it: built, in another folder, with a real clock, real files and real signals.
func TestBinary(t *testing.T) {
	shop := filepath.Join(t.TempDir(), "shop")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", shop, ".").CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	start := func(t *testing.T, args ...string) (*exec.Cmd, func() result) {
		cmd := exec.CommandContext(t.Context(), shop, args...)
		cmd.Dir = t.TempDir()
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		return cmd, func() result {
			var exit *exec.ExitError
			if err := cmd.Wait(); err != nil && !errors.As(err, &exit) {
				t.Fatal(err)
			}
			return result{status: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
		}
	}
	for name, tc := range map[string]struct {
		args   []string
		stdin  string
		status int
		want   string
	}{
		"the day":         {nil, "", exitOK, "The books balance."},
		"standard input":  {[]string{"--orders", "-"}, one, exitOK, "1 orders, 1 shipped"},
		"help":            {[]string{"--help"}, "", exitOK, "Exit status:"},
		"no orders":       {[]string{"--orders", "-"}, "what?\n", exitFailed, "none of the 1 lines"},
		"missing file":    {[]string{"--orders", "missing"}, "", exitUsage, "shop: open missing:"},
		"wrong transport": {[]string{"--transport", "pigeon:"}, "", exitUsage, `unknown scheme "pigeon"`},
	} {
		t.Run(name, func(t *testing.T) {
			cmd, wait := start(t, tc.args...)
			cmd.Stdin = strings.NewReader(tc.stdin)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wait().expect(t, tc.status, tc.want)
		})
	}

	t.Run("full disk", func(t *testing.T) {
		disk, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("this system has no /dev/full")
		}
		defer disk.Close()
		cmd, wait := start(t)
		cmd.Stdout = disk
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wait().expect(t, exitFailed, "shop: the summary cannot be written: ")
	})

	t.Run("Ctrl-C", func(t *testing.T) {
		cmd, wait := start(t, "--orders", "-")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stderr = nil // it is read here
		progress, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := in.Write([]byte(one + "\n" + two + "\n")); err != nil {
			t.Fatal(err)
		}
		// The first line of progress says that it is at work; the input stays open, so that it is not done.
		buf := make([]byte, 1<<10)
		n, err := progress.Read(buf)
		if err != nil || !strings.Contains(string(buf[:n]), "2 lines read") {
			t.Fatalf("progress %q, error %v", buf[:n], err)
		}
		if err := cmd.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		wait().expect(t, exitInterrupted, "FAILED: interrupted", "shipped                   2", "The books balance.")
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("it took %v to end", took)
		}
	})
}
