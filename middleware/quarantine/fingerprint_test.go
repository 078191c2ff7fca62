package quarantine

import (
	"strings"
	"testing"
)

func TestPattern(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"the bank is closed":                                               "the bank is closed",
		`order "o-17" of 'ann' has 3 lines`:                                "order # of # has # lines",
		"no row 0197c1f0-7c3e-7000-8000-000000000001 in orders":            "no row # in orders",
		"dial tcp 10.0.0.17:5432: connect: connection refused":             "dial tcp #: connect: connection refused",
		"at 0xc000123abc: hash deadbeef01 is wrong":                        "at #: hash # is wrong",
		"after 1.5s, 10:30:15":                                             "after #s, #",
		`"it is \"quoted\" twice" said`:                                    "# said",
		"can't, won't":                                                     "can't, won't",
		"tab\tand\nline  end":                                              "tab and line end",
		"invalid character 'x' looking for beginning of object key string": "invalid character # looking for beginning of object key string",
		"bad \xff text":                                                    "bad text",
		strings.Repeat("ä", 400):                                           strings.Repeat("ä", 150),
		"":                                                                 "",
		"a face and a deadbeef are words":                                  "a face and a deadbeef are words",
	} {
		if got := pattern(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if a, b := fingerprint("a", "bc", "d"), fingerprint("ab", "c", "d"); a == b || len(a) != 16 {
		t.Errorf("got %s and %s, want two of 16 digits", a, b)
	}
}
