// Package examples holds runnable programs, and the test that README.md shows them as they are.
package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A block of README.md after a comment "file: PATH" is a part of that file, and one after "output: go run PACKAGE" is
// what the program prints.
var blocks = regexp.MustCompile("(?s)<!-- (file|output): (?:go run )?([^ ]+) -->\n```[a-z]*\n(.*?)```\n")

// took is what differs from run to run.
var took = regexp.MustCompile(`worked for [^,]+,`)

func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	found := blocks.FindAllStringSubmatch(string(text), -1)
	if n := strings.Count(string(text), "```go\n"); n == 0 || len(found) != n+1 {
		t.Fatalf("%d blocks with a source; want all %d of Go, and the output of the shop", len(found), n)
	}
	for _, b := range found {
		kind, source, block := b[1], b[2], b[3]
		t.Run(source, func(t *testing.T) {
			var real string
			if kind == "file" {
				file, err := os.ReadFile(filepath.Join("..", source))
				if err != nil {
					t.Fatal(err)
				}
				real = string(file)
			} else {
				real = took.ReplaceAllString(run(t, source), "")
				block = took.ReplaceAllString(block, "")
			}
			if !strings.Contains(real, block) {
				t.Errorf("README.md shows\n%s\nwhich is not a part of\n%s", block, real)
			}
		})
	}
}

func TestQuickstart(t *testing.T) {
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	got := run(t, "./examples/quickstart")
	if got != "charging o-1\n" || !strings.Contains(string(text), "prints `"+strings.TrimSpace(got)+"`") {
		t.Errorf("printed %q, want what README.md says", got)
	}
}

// run returns what a program prints on its standard output.
func run(t *testing.T, pkg string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "run", pkg)
	cmd.Dir = ".."
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go run %s: %v\n%s", pkg, err, stderr.String())
	}
	return string(out)
}
