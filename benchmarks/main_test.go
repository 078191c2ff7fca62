package main

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// Each table of docs/performance.md is one that -table prints: with the cases and peers of a suite, in their order.
func TestTheTablesOfTheDocsAreOfTheseSuites(t *testing.T) {
	text, err := os.ReadFile("../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	tables := regexp.MustCompile(`(?m)^<!-- printed by: go run \. -table ([a-z]+) -->\n\n?\| case \| ours \| peer \| ratio \| goal \|\n\|[-|]+\|\n((?:\|.*\n)+)`).
		FindAllStringSubmatch(string(text), -1)
	if len(tables) < 2 {
		t.Fatalf("%d tables are marked", len(tables))
	}
	for _, table := range tables {
		chosen, err := choose(table[1:2])
		if err != nil {
			t.Error(err)
			continue
		}
		var want []string
		for _, c := range chosen[0].Cases {
			for _, p := range c.Peers {
				want = append(want, c.Name+" / "+p.Name)
			}
			if len(c.Peers) == 0 {
				want = append(want, c.Name+" / ")
			}
		}
		var got []string
		for row := range strings.Lines(table[2]) {
			cells := strings.Split(row, "|")
			got = append(got, strings.TrimSpace(cells[1])+" / "+strings.TrimSpace(cells[3]))
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("suite %s: the table has\n%s\nand the suite\n%s", table[1], strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}
