// Command benchmarks measures Postbus side by side with its peers. See README.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/postbus/postbus/benchmarks/database"
	"github.com/postbus/postbus/benchmarks/failures"
	"github.com/postbus/postbus/benchmarks/internal/bench"
	"github.com/postbus/postbus/benchmarks/memory"
	"github.com/postbus/postbus/benchmarks/outbox"
	"github.com/postbus/postbus/benchmarks/rabbitmq"
	"github.com/postbus/postbus/benchmarks/sagas"
	"github.com/postbus/postbus/benchmarks/shop"
)

// suites are all there are, in the order in which "all" runs them.
var suites = []bench.Suite{
	memory.Suite, database.Postgres, database.MySQL, database.SQLite,
	rabbitmq.Suite, rabbitmq.Bound,
	outbox.Suite,
	sagas.Suite,
	failures.Suite,
	shop.Suite,
}

func main() { os.Exit(run(os.Args[1:])) }

// run returns the exit code: 2 if args cannot be understood, 1 if a measurement failed. A missed goal is no failure.
func run(args []string) int {
	flags := flag.NewFlagSet("benchmarks", flag.ContinueOnError)
	cfg := bench.Config{Out: os.Stdout}
	flags.IntVar(&cfg.Rounds, "rounds", 15, "`number` of alternating rounds, at least 5 for figures to be quoted")
	flags.DurationVar(&cfg.Time, "time", 100*time.Millisecond, "about how long one run takes")
	flags.BoolVar(&cfg.Goals, "goals", false, "print the goal behind each line, and whether it was met")
	flags.BoolVar(&cfg.Table, "table", false, "print a Markdown table, as docs/performance.md has them")
	only := flags.String("case", "", "run the cases whose name matches this `regexp` only")
	cpuProfile := flags.String("cpuprofile", "", "write a CPU profile to `file`; its labels are contender and publisher")
	flags.Usage = func() { usage(flags) }
	chosen, err := parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2 // the flag package has said why
	}
	if len(chosen) == 1 && chosen[0] == "list" {
		for _, s := range suites {
			fmt.Printf("%-10s %s\n", s.Name, s.About)
		}
		return 0
	}
	queue, err := choose(chosen)
	if err == nil && (cfg.Rounds < 1 || cfg.Time <= 0) {
		err = errors.New("-rounds and -time must be positive")
	}
	if err == nil && *only != "" {
		cfg.Only, err = regexp.Compile(*only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "benchmarks:", err)
		usage(flags)
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *cpuProfile != "" {
		f, err := os.Create(*cpuProfile)
		if err == nil {
			defer f.Close()
			err = pprof.StartCPUProfile(f)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "benchmarks:", err)
			return 1
		}
		defer pprof.StopCPUProfile()
	}
	code := 0
	for _, s := range queue {
		if err := cfg.RunSuite(ctx, s); err != nil {
			fmt.Fprintln(os.Stderr, "benchmarks:", err)
			code = 1
		}
	}
	return code
}

// parse allows flags before, between and after the names.
func parse(flags *flag.FlagSet, args []string) (names []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return names, nil
		}
		names, args = append(names, flags.Arg(0)), flags.Args()[1:]
	}
}

// choose returns the suites of the given names.
func choose(names []string) ([]*bench.Suite, error) {
	if len(names) == 0 {
		return nil, errors.New("which suite?")
	}
	var queue []*bench.Suite
	for _, name := range names {
		found := false
		for i := range suites {
			if name == "all" || name == suites[i].Name {
				queue, found = append(queue, &suites[i]), true
			}
		}
		if !found {
			return nil, fmt.Errorf("unknown suite %q", name)
		}
	}
	return queue, nil
}

func usage(flags *flag.FlagSet) {
	var names []string
	for _, s := range suites {
		names = append(names, s.Name)
	}
	fmt.Fprintf(flags.Output(), "usage: go run . [flags] SUITE…\nSUITE is one of: %s, all; \"list\" describes them.\n",
		strings.Join(names, ", "))
	flags.PrintDefaults()
}
