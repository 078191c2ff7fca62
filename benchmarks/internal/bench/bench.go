// Package bench runs side-by-side measurements: ours and a peer's, alternating in one process.
//
// A suite is a list of cases. A case is one function of ours and one for each peer that does the same work:
//
//	func ours(ctx context.Context, r *bench.Run) error {
//		b, err := setUp(ctx)  // before Start: not timed
//		…
//		defer b.tearDown()    // after Stop: not timed
//		r.Start()
//		for i := range r.N {
//			b.Publish(ctx, event(i))
//		}
//		if err := b.waitForAll(ctx); err != nil { // verify, or it did not happen
//			return err
//		}
//		r.Stop(r.N)
//		return nil
//	}
package bench

import (
	"context"
	"errors"
	"runtime/pprof"
	"time"
)

// Suite is a list of cases that are run by one name.
type Suite struct {
	Name  string
	About string // one line, for the list of suites
	Cases []Case
	// Open prepares what the cases share, such as a database, and returns what undoes it. An error ends the suite.
	// Default: nothing.
	Open func(ctx context.Context) (closeAll func() error, err error)
}

// Case is one thing that is measured.
type Case struct {
	Name string
	// Unit of the figure. Default: "msg/s".
	Unit string
	// N is how often a run repeats its operation. Default: as often as fills Config.Time, found out during the warm-up.
	N int
	// Time is about how long a run takes at least, for what has to start first. Default: Config.Time.
	Time time.Duration
	// Rounds is how many there are at most, for runs that take long. Default: as many as Config.Rounds.
	Rounds int
	Ours   Contender
	// Peers are measured against Ours one after the other, a line of output for each. Without peers there is one line
	// for Ours alone, held against AtMost and AtLeast.
	Peers []Peer
	// AtMost is the largest figure that is good enough, and AtLeast the smallest, for a case without peers. Default: no
	// goal.
	AtMost, AtLeast float64
}

// Peer does what Ours does, by other means.
type Peer struct {
	Name string
	Run  Contender
	// Goal is the smallest ratio, ours over theirs, that is good enough. Default: no goal.
	Goal float64
}

// Contender does its operation r.N times between r.Start and r.Stop, and verifies that all of it has happened. Ending
// ctx, which bounds a run that hangs, makes it return an error.
type Contender func(ctx context.Context, r *Run) error

// Run is one run of a contender.
type Run struct {
	// N is how often to repeat.
	N int

	side    string
	labels  context.Context
	started time.Time
	elapsed time.Duration
	figure  float64
}

// Start begins the timed part. In a CPU profile the calling goroutine, and those that it starts from now on, get the
// label publisher, with the name of the contender.
func (r *Run) Start() {
	pprof.SetGoroutineLabels(pprof.WithLabels(r.labels, pprof.Labels("publisher", r.side)))
	r.started = time.Now()
}

// Stop ends the timed part, in which count messages, or whatever the unit counts, were received and verified.
func (r *Run) Stop(count int) {
	r.elapsed = time.Since(r.started)
	r.figure = float64(count) / r.elapsed.Seconds()
	pprof.SetGoroutineLabels(r.labels)
}

// Report makes figure the result of the run, after Stop, where that is not a count per second.
func (r *Run) Report(figure float64) { r.figure = figure }

var errNotTimed = errors.New("the contender did not call Start and Stop")
