package watermill

import (
	"fmt"
	"testing"
)

func TestAttemptsStaySmall(t *testing.T) {
	t.Parallel()
	var a attempts
	for i := range 10 * attemptsKept {
		if n := a.add(fmt.Sprint(i)); n != 1 {
			t.Fatalf("message %d was counted as delivery %d", i, n)
		}
		if size := len(a.young) + len(a.old); size > 2*attemptsKept {
			t.Fatalf("%d messages are remembered, of %d", size, i)
		}
	}
	if n := a.add(fmt.Sprint(9*attemptsKept + 1)); n != 2 {
		t.Errorf("a message of the last %d was forgotten", attemptsKept)
	}
	if n := a.add("0"); n != 1 {
		t.Errorf("the oldest is still remembered")
	}
}

func TestAttemptsOfSettledMessagesAreForgotten(t *testing.T) {
	t.Parallel()
	var a attempts
	a.add("acknowledged")
	a.add("released")
	a.forget("acknowledged")
	a.release("released")
	a.release("never seen")
	if len(a.young)+len(a.old) != 0 {
		t.Errorf("%v and %v are left", a.young, a.old)
	}
}
