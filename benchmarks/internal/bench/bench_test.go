package bench_test

import (
	"bytes"
	"context"
	"errors"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/postbus/postbus/benchmarks/internal/bench"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// taking is a contender that takes d for each message, and notes each of its runs in log.
func taking(d time.Duration, name string, log *[]string) bench.Contender {
	return func(_ context.Context, r *bench.Run) error {
		*log = append(*log, name)
		r.Start()
		time.Sleep(time.Duration(r.N) * d)
		r.Stop(r.N)
		return nil
	}
}

func TestLinesHoldMediansOfAlternatingRounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log []string
		suite := bench.Suite{Name: "s", Cases: []bench.Case{
			{
				Name: "fast", N: 100,
				Ours:  taking(time.Millisecond, "A", &log),
				Peers: []bench.Peer{{Name: "slow", Run: taking(4*time.Millisecond, "B", &log), Goal: 5}},
			},
			{Name: "enough", N: 100, AtLeast: 600, Ours: taking(time.Millisecond, "", &log)},
			{Name: "alone", Unit: "allocs/msg", AtMost: 3, Ours: func(_ context.Context, r *bench.Run) error {
				r.Start()
				time.Sleep(time.Second)
				r.Stop(1)
				r.Report(2.5)
				return nil
			}},
		}}
		var out bytes.Buffer
		if err := (bench.Config{Rounds: 3, Time: time.Second, Goals: true, Out: &out}).RunSuite(t.Context(), &suite); err != nil {
			t.Fatal(err)
		}
		var lines []string
		for line := range strings.Lines(out.String()) {
			if !strings.HasPrefix(line, "#") {
				lines = append(lines, line)
			}
		}
		want := "suite=s case=fast ours=1000 peer=slow theirs=250 unit=msg/s ratio=4.00 goal=5 ok=false\n" +
			"suite=s case=enough ours=1000 unit=msg/s goal>=600 ok=true\n" +
			"suite=s case=alone ours=2.50 unit=allocs/msg goal<=3 ok=true\n"
		if got := strings.Join(lines, ""); got != want {
			t.Errorf("got\n%swant\n%s", got, want)
		}
		if got, want := strings.Join(log, ""), "AB"+"ABBAAB"; got != want { // the warm-up, then the rounds
			t.Errorf("runs in the order %s, want %s", got, want)
		}
		out.Reset()
		if err := (bench.Config{Rounds: 1, Time: time.Second, Table: true, Out: &out}).RunSuite(t.Context(), &suite); err != nil {
			t.Fatal(err)
		}
		_, table, _ := strings.Cut(out.String(), "\n")
		if want := "\n| case | ours | peer | ratio | goal |\n|---|---|---|---|---|\n| fast | 1000 msg/s | slow | 4.00 | ≥ 5 |\n" +
			"| enough | 1000 msg/s |  |  | ≥ 600 |\n| alone | 2.50 allocs/msg |  |  | ≤ 3 |\n"; table != want {
			t.Errorf("got the table\n%swant\n%s", table, want)
		}
	})
}

func TestARunTakesAboutTheTimeAskedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		last := 0
		suite := bench.Suite{Name: "s", Cases: []bench.Case{{Name: "c", Ours: func(_ context.Context, r *bench.Run) error {
			last = r.N
			r.Start()
			time.Sleep(time.Duration(r.N) * time.Microsecond)
			r.Stop(r.N)
			return nil
		}}}}
		if err := (bench.Config{Rounds: 1, Time: time.Second, Out: &bytes.Buffer{}}).RunSuite(t.Context(), &suite); err != nil {
			t.Fatal(err)
		}
		if last != 1_000_000 {
			t.Errorf("a run of 1 s repeated what takes 1 µs %d times", last)
		}
	})
}

func TestAFailedCaseLeavesTheOthers(t *testing.T) {
	var log []string
	broken := errors.New("messages are missing")
	untimed := func(context.Context, *bench.Run) error { return nil }
	suite := bench.Suite{Name: "s", Cases: []bench.Case{
		{Name: "lossy", N: 1, Ours: func(context.Context, *bench.Run) error { return broken }},
		{Name: "untimed", N: 1, Ours: untimed},
		{Name: "left-out", N: 1, Ours: untimed},
		{Name: "good", N: 1, Ours: taking(time.Millisecond, "A", &log)},
	}}
	var out bytes.Buffer
	cfg := bench.Config{Rounds: 1, Time: time.Second, Only: regexp.MustCompile("^[^-]*$"), Out: &out}
	err := cfg.RunSuite(t.Context(), &suite)
	if !errors.Is(err, broken) || !strings.Contains(err.Error(), "case lossy: ours:") ||
		!strings.Contains(err.Error(), "case untimed: ") || strings.Contains(err.Error(), "left-out") {
		t.Errorf("got the error %v", err)
	}
	if !strings.Contains(out.String(), "case=good ") || strings.Contains(out.String(), "case=lossy") {
		t.Errorf("got %s", out.String())
	}
}
