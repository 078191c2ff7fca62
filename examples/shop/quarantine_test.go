package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var took = regexp.MustCompile(`worked for [^,]+, in [^ \n]+`)

// TestALineIsFoundFixedAndReplayed runs quarantine.sh, which README.md shows, and holds what it prints in the end against
// quarantine.txt.
func TestALineIsFoundFixedAndReplayed(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile("quarantine.sh")
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/", ".", "../../cmd/postbus")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	commands := strings.NewReplacer("go run ./examples/", bin+"/", "go run ./cmd/", bin+"/",
		"/tmp/shop.db", filepath.Join(t.TempDir(), "shop.db")).Replace(string(script))
	cmd := exec.CommandContext(t.Context(), "sh", "-e", "-c", commands)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, stderr.String())
	}
	got := took.ReplaceAllString(string(out), "worked")
	for _, want := range []string{
		"set aside                 1\n", `intake.line  -    1         0 `, `{"id":"o-1150","customer":"rob@example.com","card":"card-` + "\n",
		"error:\n  bus: payload cannot be decoded",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not print %q:\n%s", want, got)
		}
	}
	end, err := os.ReadFile("quarantine.txt")
	if err != nil {
		t.Fatal(err)
	}
	if want := took.ReplaceAllString(string(end), "worked"); !strings.HasSuffix(got, want) {
		t.Errorf("it ends with\n%s\nwant\n%s", got[max(0, len(got)-len(want)-100):], want)
	}
}
