package main

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Modules know each other by events alone: of another module, only the package of its events may be imported.
func TestModulesKnowOnlyEvents(t *testing.T) {
	const here = "github.com/postbus/postbus/examples/shop/"
	files, err := filepath.Glob("*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	deeper, err := filepath.Glob("*/*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	imports := 0
	for _, file := range append(files, deeper...) {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		module, _, _ := strings.Cut(filepath.ToSlash(file), "/")
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			other, ours := strings.CutPrefix(path, here)
			if !ours || strings.HasPrefix(other+"/", module+"/") {
				continue
			}
			if other == "tables" { // what all share of SQL; no module
				continue
			}
			if imports++; !strings.HasSuffix(other, "events") {
				t.Errorf("%s imports %s: of other modules only the events", file, other)
			}
		}
	}
	if imports == 0 {
		t.Error("no module imports another's events: this test has looked in the wrong place")
	}
}
