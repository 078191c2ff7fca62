package sqltext

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestFit(t *testing.T) {
	t.Parallel()
	if s := strings.Repeat("x", 200); Fit(s) != s {
		t.Error("a text that fits was changed")
	}
	seen := map[string]bool{}
	for _, s := range []string{strings.Repeat("é", 150), strings.Repeat("é", 151), "x" + strings.Repeat("é", 150), strings.Repeat("y", 300)} {
		got := Fit(s)
		if len(got) > 255 || !utf8.ValidString(got) || seen[got] {
			t.Errorf("%q became %q", s, got)
		}
		seen[got] = true
	}
}
