package rabbitmq

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// TestLadderTakesAsLongAsItShould walks messages down the ladder, by the bindings that declareLevel and declareStep make.
func TestLadderTakesAsLongAsItShould(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	all := []int64{1, 2, 3, stepUnits - 1, stepUnits, stepUnits + 1, maxSteps * stepUnits}
	for range 1000 {
		all = append(all, 1+r.Int64N(1<<(1+r.IntN(29))))
	}
	for _, n := range all {
		at, key := delayed(n, "t.address") // a "." in it must not matter
		fields := strings.Split(key, ".")
		waited := int64(0)
		for at != delayOut {
			var j, k int
			if _, err := fmt.Sscanf(at, delayPrefix+".long.%d", &j); err == nil {
				waited += stepUnits
				if at = stepName(j - 1); j == 1 {
					at = levelName(levels - 1)
				}
				continue
			}
			if _, err := fmt.Sscanf(at, delayPrefix+".%d", &k); err != nil {
				t.Fatalf("%d units lead to %q", n, at)
			}
			if fields[levels-1-k] == "1" {
				waited += 1 << k
			}
			if at = levelName(k - 1); k == 0 {
				at = delayOut
			}
		}
		if waited != n || !strings.HasSuffix(key, ".t.address") || len(fields) != levels+2 {
			t.Errorf("%d units: waits %d of them, with the key %s", n, waited, key)
		}
	}
	for d, want := range map[time.Duration]int64{1: 1, delayUnit: 1, delayUnit + 1: 2, maxDelay: maxSteps * stepUnits} {
		if got := units(d); got != want {
			t.Errorf("%v are %d units, want %d", d, got, want)
		}
	}
}
