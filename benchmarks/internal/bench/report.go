package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// Config says how suites are run.
type Config struct {
	// Rounds is how often each pair is measured. Required.
	Rounds int
	// Time is about how long one run takes. Required.
	Time time.Duration
	// Only limits the cases to those whose name matches. Default: all.
	Only *regexp.Regexp
	// Goals adds to each line its goal and whether that was met.
	Goals bool
	// Table prints a Markdown table instead of lines for programs.
	Table bool
	// Out gets a line per measurement. Lines that begin with # are for people.
	Out io.Writer
}

// ballastSize is the live heap that every measurement runs beside. With the megabyte that a bare benchmark holds, the
// collector would run a thousand times a second, which it does in no service; the figures would be about that.
const ballastSize = 64 << 20

// RunSuite measures all cases of a suite. A case that fails does not keep the others from being measured.
func (cfg Config) RunSuite(ctx context.Context, s *Suite) (err error) {
	ballast := make([]byte, ballastSize)
	defer runtime.KeepAlive(ballast)
	if s.Open != nil {
		closeAll, err := s.Open(ctx)
		if err != nil {
			return fmt.Errorf("suite %s: %w", s.Name, err)
		}
		defer func() { err = errors.Join(err, closeAll()) }()
	}
	fmt.Fprintf(cfg.Out, "# suite %s: %s %s/%s, %d CPUs; medians of %d alternating rounds, about %v each; beside a live heap of %d MiB\n",
		s.Name, runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.GOMAXPROCS(0), cfg.Rounds, cfg.Time, ballastSize>>20)
	if cfg.Table {
		fmt.Fprint(cfg.Out, "\n| case | ours | peer | ratio | goal |\n|---|---|---|---|---|\n")
	}
	var errs []error
	for i := range s.Cases {
		c := &s.Cases[i]
		if cfg.Only != nil && !cfg.Only.MatchString(c.Name) {
			continue
		}
		if err := cfg.runCase(ctx, s, c); err != nil {
			errs = append(errs, fmt.Errorf("suite %s: case %s: %w", s.Name, c.Name, err))
		}
	}
	return errors.Join(errs...)
}

func (cfg Config) runCase(ctx context.Context, s *Suite, c *Case) error {
	unit := cmp.Or(c.Unit, "msg/s")
	if len(c.Peers) == 0 {
		ours, _, err := cfg.measure(ctx, c, nil)
		if err != nil {
			return err
		}
		if cfg.Table {
			goal := ""
			if c.AtMost > 0 {
				goal = fmt.Sprintf("≤ %v", c.AtMost)
			}
			if c.AtLeast > 0 {
				goal = fmt.Sprintf("≥ %v", c.AtLeast)
			}
			return cfg.row(c.Name, number(ours)+" "+unit, "", "", goal)
		}
		line := fmt.Sprintf("suite=%s case=%s ours=%s unit=%s", s.Name, c.Name, number(ours), unit)
		if c.AtMost > 0 {
			line += fmt.Sprintf(" goal<=%v", c.AtMost)
			if cfg.Goals {
				line += fmt.Sprintf(" ok=%t", ours <= c.AtMost)
			}
		}
		if c.AtLeast > 0 {
			line += fmt.Sprintf(" goal>=%v", c.AtLeast)
			if cfg.Goals {
				line += fmt.Sprintf(" ok=%t", ours >= c.AtLeast)
			}
		}
		_, err = fmt.Fprintln(cfg.Out, line)
		return err
	}
	var errs []error
	for i := range c.Peers {
		p := &c.Peers[i]
		ours, theirs, err := cfg.measure(ctx, c, p)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		ratio := ours / theirs
		if cfg.Table {
			goal := ""
			if p.Goal > 0 {
				goal = fmt.Sprintf("≥ %v", p.Goal)
			}
			errs = append(errs, cfg.row(c.Name, number(ours)+" "+unit, p.Name, number(ratio), goal))
			continue
		}
		line := fmt.Sprintf("suite=%s case=%s ours=%s peer=%s theirs=%s unit=%s ratio=%s",
			s.Name, c.Name, number(ours), p.Name, number(theirs), unit, number(ratio))
		if cfg.Goals && p.Goal > 0 {
			line += fmt.Sprintf(" goal=%v ok=%t", p.Goal, ratio >= p.Goal)
		}
		if _, err := fmt.Fprintln(cfg.Out, line); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// row writes a line of the table.
func (cfg Config) row(cells ...string) error {
	_, err := fmt.Fprintf(cfg.Out, "| %s |\n", strings.Join(cells, " | "))
	return err
}

// number writes a figure with three digits at least, and without an exponent.
func number(f float64) string {
	switch {
	case f >= 100:
		return strconv.FormatFloat(f, 'f', 0, 64)
	case f >= 10:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return strconv.FormatFloat(f, 'f', 2, 64)
}
