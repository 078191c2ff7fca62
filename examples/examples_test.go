package examples

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// longest is how many lines a program may have that shows one thing.
const longest = 150

// arguments are those of more runs of an example, whose output is in the file of that name.
var arguments = map[string][]string{
	"transports/output-sqlite.txt": {"sqlite:DIR/bus.db"},
}

// TestExamples runs each example in a folder with an output.txt, which is what it must print.
func TestExamples(t *testing.T) {
	t.Parallel()
	outputs, err := filepath.Glob("*/output*.txt")
	if err != nil || len(outputs) < 5 {
		t.Fatal(outputs, err)
	}
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin+"/")
	for _, output := range outputs {
		build.Args = append(build.Args, "./"+filepath.Dir(output))
	}
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, output := range outputs {
		t.Run(output, func(t *testing.T) {
			t.Parallel()
			want, err := os.ReadFile(output)
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), filepath.Join(bin, filepath.Dir(output)))
			for _, a := range arguments[output] {
				cmd.Args = append(cmd.Args, strings.ReplaceAll(a, "DIR", t.TempDir()))
			}
			cmd.Dir = ".."
			var stderr strings.Builder
			cmd.Stderr = &stderr
			got, err := cmd.Output()
			if err != nil || string(got) != string(want) {
				t.Errorf("%v; printed\n%s\nwant\n%s\n%s", err, got, want, stderr.String())
			}
		})
	}
}

// TestExamplesAreShortAndRun sees that each folder is run by a test, and is short; the shop is an application.
func TestExamplesAreShortAndRun(t *testing.T) {
	t.Parallel()
	folders, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, folder := range folders {
		name := folder.Name()
		if !folder.IsDir() {
			continue
		}
		if !strings.Contains(read(t, "README.md"), "["+name+"]("+name+")") {
			t.Errorf("README.md does not list %s", name)
		}
		if name == "shop" {
			continue
		}
		files, err := filepath.Glob(name + "/*")
		if err != nil {
			t.Fatal(err)
		}
		run := false
		for _, file := range files {
			isTest := strings.HasSuffix(file, "_test.go")
			run = run || isTest || strings.HasSuffix(file, "output.txt")
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if lines := strings.Count(string(text), "\n"); strings.HasSuffix(file, ".go") && lines > longest {
				t.Errorf("%s has %d lines, %d are allowed", file, lines, longest)
			}
		}
		if !run {
			t.Errorf("no test runs examples/%s: it has neither output.txt nor tests", name)
		}
	}
}
