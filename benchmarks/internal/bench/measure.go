package bench

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"slices"
	"time"
)

const (
	// runTimeout bounds one run, so that a lost message is an error and not a hang.
	runTimeout = 30 * time.Second
	// warmUpN is how often the first run of the warm-up repeats its operation.
	warmUpN = 256
)

// measure returns the medians of a contender and its peer over alternating rounds: AB, BA, AB… The peer may be nil.
func (cfg Config) measure(ctx context.Context, c *Case, peer *Peer) (ours, theirs float64, err error) {
	sides := []*side{{name: "ours", run: c.Ours}}
	if peer != nil {
		sides = append(sides, &side{name: peer.Name, run: peer.Run})
	}
	for _, s := range sides {
		if s.n = c.N; s.n == 0 {
			err = s.calibrate(ctx, max(cfg.Time, c.Time))
		} else {
			_, err = s.once(ctx, s.n)
		}
		if err != nil {
			return 0, 0, err
		}
	}
	rounds := cfg.Rounds
	if c.Rounds > 0 {
		rounds = min(rounds, c.Rounds)
	}
	for range rounds {
		for _, s := range sides {
			r, err := s.once(ctx, s.n)
			if err != nil {
				return 0, 0, err
			}
			s.figures = append(s.figures, r.figure)
		}
		slices.Reverse(sides)
	}
	for _, s := range sides {
		if s.name == "ours" {
			ours = median(s.figures)
		} else {
			theirs = median(s.figures)
		}
	}
	return ours, theirs, nil
}

// side is a contender in a measurement.
type side struct {
	name    string
	run     Contender
	n       int
	figures []float64
}

// calibrate warms up, and finds the n with which a run takes about d.
func (s *side) calibrate(ctx context.Context, d time.Duration) error {
	for s.n = warmUpN; ; {
		r, err := s.once(ctx, s.n)
		if err != nil {
			return err
		}
		fill := float64(d) / float64(max(r.elapsed, time.Microsecond))
		if fill <= 2 {
			s.n = max(1, int(float64(s.n)*fill))
			return nil
		}
		s.n = int(float64(s.n) * min(fill, 10))
	}
}

// once runs the contender after a garbage collection, so that nobody pays for what the other left behind.
func (s *side) once(ctx context.Context, n int) (*Run, error) {
	runtime.GC()
	ctx, cancel := context.WithTimeout(ctx, runTimeout)
	defer cancel()
	r := &Run{N: n, side: s.name, labels: pprof.WithLabels(ctx, pprof.Labels("contender", s.name))}
	pprof.SetGoroutineLabels(r.labels)
	defer pprof.SetGoroutineLabels(context.Background())
	err := s.run(ctx, r) // without the labels, which would make looking a value up in ctx slower
	if err == nil && r.elapsed == 0 {
		err = errNotTimed
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return r, nil
}

func median(figures []float64) float64 {
	figures = slices.Sorted(slices.Values(figures))
	mid := len(figures) / 2
	if len(figures)%2 == 0 {
		return (figures[mid-1] + figures[mid]) / 2
	}
	return figures[mid]
}
