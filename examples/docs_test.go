// Package examples holds runnable programs, and the test that README.md and docs show them as they are.
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

// A block after a comment "file: PATH" is a part of that file, and one after "output: go run PACKAGE" is what the program
// prints. A table after "same as: PATH" is in that file, too.
var (
	blocks = regexp.MustCompile("(?s)<!-- (file|output): (?:go run )?([^ ]+) -->\n```[a-z]*\n(.*?)```\n")
	tables = regexp.MustCompile(`(?m)<!-- same as: ([^ ]+) -->\n((?:\|.*\n)+)`)
	code   = regexp.MustCompile("(?s)```.*?```|`[^`\n]*`")
	links  = regexp.MustCompile(`\]\(([^)#:]+)\)`)
)

// took is what differs from run to run.
var took = regexp.MustCompile(`worked for [^,]+,`)

func TestDocumentsShowWhatIsTested(t *testing.T) {
	documents, err := filepath.Glob("../docs/*.md")
	if err != nil || len(documents) < 6 {
		t.Fatal(documents, err)
	}
	for _, document := range append(documents, "../README.md", "README.md") {
		t.Run(document, func(t *testing.T) {
			content := read(t, document)
			found := blocks.FindAllStringSubmatch(content, -1)
			// A diagram may be drawn by hand.
			fences := (strings.Count(content, "\n```") - 2*strings.Count(content, "```mermaid\n")) / 2
			for _, b := range found {
				if strings.Contains(b[0], "```mermaid\n") {
					fences++
				}
			}
			if fences != len(found) {
				t.Fatalf("%d of %d blocks have a source", len(found), fences)
			}
			for _, b := range found {
				kind, source, block := b[1], b[2], b[3]
				var real string
				if kind == "file" {
					real = read(t, filepath.Join("..", source))
				} else {
					real = took.ReplaceAllString(run(t, source), "")
					block = took.ReplaceAllString(block, "")
				}
				if !strings.Contains(real, block) {
					t.Errorf("it shows\n%s\nwhich is not a part of %s:\n%s", block, source, real)
				}
			}
			for _, table := range tables.FindAllStringSubmatch(content, -1) {
				if !strings.Contains(read(t, filepath.Join("..", table[1])), table[2]) {
					t.Errorf("a table is not that of %s", table[1])
				}
			}
			for _, link := range links.FindAllStringSubmatch(code.ReplaceAllString(content, ""), -1) {
				if _, err := os.Stat(filepath.Join(filepath.Dir(document), link[1])); err != nil {
					t.Errorf("a link leads nowhere: %v", err)
				}
			}
		})
	}
}

func TestQuickstart(t *testing.T) {
	t.Parallel()
	if want := strings.TrimSpace(read(t, "quickstart/output.txt")); !strings.Contains(read(t, "../README.md"), "prints `"+want+"`") {
		t.Errorf("README.md does not say that it prints %q", want)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
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
