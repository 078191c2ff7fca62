package sqllog

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestShares: whatever is held, the shares of all are all partitions, differ by one at most, and are the same for who
// takes part; once everyone has taken and given up what is due, nothing moves any more.
func TestShares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.IntRange(1, 20).Draw(t, "parts")
		var members []string
		for i := range rapid.IntRange(1, 8).Draw(t, "members") {
			members = append(members, fmt.Sprint("m", i))
		}
		members = rapid.Permutation(members).Draw(t, "order")
		holds := map[string]int{}
		for range parts {
			holds[rapid.SampledFrom(append(slices.Clone(members), "", "gone")).Draw(t, "holder")]++
		}
		least := parts / len(members)
		sum, moved, above, beyond := 0, 0, 0, 0
		shares := map[string]int{}
		for _, m := range members {
			n := shareOf(m, parts, members, holds)
			if n < least || n > least+1 {
				t.Fatalf("%s has %d of %d among %d", m, n, parts, len(members))
			}
			shares[m] = n
			sum += n
			moved += max(0, holds[m]-n)
			if holds[m] > least {
				above++
				beyond += holds[m] - least
			}
		}
		if sum != parts {
			t.Fatalf("the shares are %d, of %d partitions", sum, parts)
		}
		if fewest := beyond - min(above, parts%len(members)); moved != fewest {
			t.Fatalf("%d are given up, %d would do", moved, fewest)
		}
		slices.Reverse(members)
		for _, m := range members {
			if n := shareOf(m, parts, members, shares); n != shares[m] {
				t.Fatalf("%s had %d and is to have %d now", m, shares[m], n)
			}
		}
	})
}
