package bustest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/postbus/postbus/bus"
)

// SeedVariable is the environment variable that overrides the seed of every [Adversarial].
const SeedVariable = "POSTBUS_SEED"

// Adversarial delivers as badly as a transport may, and as processes live: one line that shows whether handlers are
// idempotent.
//
//   - Messages come again although they were acknowledged: the last one of a key, or the last few in their order.
//   - Messages of different keys, and those without one, change places. Those of one key on one topic do not: after one
//     of them comes the next, or an earlier one from which on all come again.
//   - The process dies before the handler of a delivery, at a call of Publish within it (the event may be out or not),
//     after it, after its acknowledgement, and between deliveries. The handler's context ends, its goroutine ends in
//     that Publish as by runtime.Goexit (deferred calls run), and nothing the process still tries reaches the
//     transport. wire is then called for a fresh bus: what wire made is lost, what the test holds outside of it stays,
//     as a database would. Messages stay too, and what was not acknowledged comes again with a higher attempt.
//
// A group at most once gets nothing twice, and misses what it had acknowledged when the process died.
//
// All this happens within Settle, to one delivery at a time, a bounded number of times: a message suffers at most two
// faults in each group, so that no retry policy that allows three attempts gives up because of them. A delayed message
// is not due before all others have been handled. Settle fails after 10,000 steps already.
//
// The same seed gives the same run, if the program's own randomness and goroutines do not change it. Seed 0 picks one
// at random. The seed is logged, what happened is logged if the test fails, and the environment variable POSTBUS_SEED
// overrides the seed.
func Adversarial(seed uint64) Option {
	return func(p *Probe) {
		if text := os.Getenv(SeedVariable); text != "" {
			n, err := strconv.ParseUint(text, 10, 64)
			if err != nil {
				p.t.Fatalf("bustest: %s=%q must be a number from 0 to %d", SeedVariable, text, uint64(1<<64-1))
			}
			seed = n
		}
		for seed == 0 {
			seed = rand.Uint64()
		}
		p.adversary = &adversary{
			probe: p, seed: seed, rand: rand.New(rand.NewPCG(seed, 0)), broker: newBroker(&p.journal),
		}
	}
}

// Trace returns what the adversary has done, a line for each step; nil without Adversarial. Messages are named by
// numbers, in the order in which they were published.
func (p *Probe) Trace() []string {
	if p.adversary == nil {
		return nil
	}
	return slices.Clone(p.adversary.trace)
}

const (
	maxFaults = 2 // of a message in a group
	// In one Settle:
	maxAllFaults = 1_000
	maxRestarts  = 3 // between deliveries
	maxSteps     = 10_000
)

// adversary is the script of a broker.
type adversary struct {
	probe    *Probe
	seed     uint64
	rand     *rand.Rand
	broker   *broker
	process  *process // alive
	restarts int
	faults   int
	trace    []string
}

func (a *adversary) begin() {
	a.probe.t.Helper()
	a.probe.t.Logf("bustest: adversarial seed %d; %s=%d repeats the run", a.seed, SeedVariable, a.seed)
	a.broker.scripted = true
	a.start()
}

// start starts a process.
func (a *adversary) start() {
	a.probe.t.Helper()
	a.process = &process{b: a.broker}
	a.probe.start(a.process, func(cfg *bus.Config) flow {
		if cfg.Transport != a.process {
			a.probe.t.Fatal("bustest: Adversarial brings its own transport; an option has set Config.Transport")
		}
		a.broker.atMostOnce = atMostOnce(cfg)
		return a.process
	})
}

// restart kills the process, if it has not died already, and starts another.
func (a *adversary) restart() {
	a.probe.t.Helper()
	a.broker.mu.Lock()
	a.process.dead = true
	a.broker.mu.Unlock()
	now, cancel := context.WithCancel(context.Background())
	cancel()
	// It complains that it could not settle, or of a handler that does not end: neither concerns a dead process.
	_ = a.probe.Bus().Stop(now)
	a.broker.mu.Lock()
	a.broker.lose()
	a.broker.mu.Unlock()
	a.start()
}

// settle takes steps until nothing is left to do.
func (a *adversary) settle(deadline <-chan time.Time) (trouble string) {
	a.probe.t.Helper()
	a.restarts, a.faults = 0, 0
	for range maxSteps {
		if a.probe.bubble {
			wait() // for goroutines that handlers have left behind
		}
		if a.rewind() {
			continue
		}
		if a.restarts < maxRestarts && a.rand.IntN(16) == 0 {
			a.restarts++
			a.log("crash between deliveries")
			a.restart()
			continue
		}
		q, it := a.choose()
		switch {
		case it == nil:
			next := a.ripen(time.Time{})
			if next.IsZero() {
				return a.rest()
			}
			select {
			case <-time.After(time.Until(next)):
				a.ripen(next)
			case <-deadline:
				return tooLong
			}
		case it.deliveries+it.msg.Attempts >= maxAttempts:
			return tooMany
		case a.broker.journal.endless():
			return tooDeep
		case !a.deliver(q, it, deadline):
			return tooLong
		}
	}
	return tooMany
}

// rest reports messages that are left although there is nothing to do.
func (a *adversary) rest() (trouble string) {
	if len(a.broker.pending()) > 0 {
		return "as their groups have no subscription"
	}
	return ""
}

// choose picks what is delivered next; nil if there is nothing.
func (a *adversary) choose() (*brokerQueue, *item) {
	a.broker.mu.Lock()
	defer a.broker.mu.Unlock()
	var queues []*brokerQueue
	var heads []*item
	for q := range a.broker.queues {
		if len(q.subs) == 0 {
			continue
		}
		for _, it := range q.heads() {
			queues, heads = append(queues, q), append(heads, it)
		}
	}
	if len(heads) == 0 {
		return nil, nil
	}
	i := a.rand.IntN(len(heads))
	return queues[i], heads[i]
}

// ripen makes delayed messages available that are due by t, and returns when the next one is due.
func (a *adversary) ripen(t time.Time) (next time.Time) {
	a.broker.mu.Lock()
	defer a.broker.mu.Unlock()
	for q := range a.broker.queues {
		if at := a.broker.ripen(q, t); next.IsZero() || !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next
}

// deliver hands one message out, and waits until the group has settled it or the process has died of it. It reports
// false when the deadline comes first.
func (a *adversary) deliver(q *brokerQueue, it *item, deadline <-chan time.Time) bool {
	b := a.broker
	s := &step{nth: 1 + a.rand.IntN(4)/3} // most handlers publish once
	if i := a.rand.IntN(len(points) + 2); i < len(points) && it.faults < maxFaults && a.faults < maxAllFaults {
		s.fault = points[i]
	}
	b.mu.Lock()
	s.atMostOnce = b.atMostOnce[q.group]
	it.state = granted
	a.process.step = s
	a.log("deliver %s to %s, attempt %d", it, q.group, it.msg.Attempts+it.deliveries+1)
	if s.fault == beforeHandle {
		it.deliveries++
		s.crashed = true
	} else {
		q.announce()
	}
	for !s.done && !s.crashed {
		b.mu.Unlock()
		select {
		case <-b.wake:
		case <-deadline:
			return false
		}
		b.mu.Lock()
	}
	crashed := s.crashed
	if crashed {
		a.faults++
		it.faults++
		a.log("crash %s", s.fault)
	}
	b.mu.Unlock()
	if crashed {
		a.restart()
	}
	return true
}

func (a *adversary) log(format string, args ...any) {
	a.trace = append(a.trace, fmt.Sprintf(format, args...))
}

// report logs what has happened, for a test that failed.
func (a *adversary) report() {
	a.probe.t.Helper()
	if a.probe.t.Failed() {
		a.probe.t.Logf("bustest: what the adversary did with seed %d:\n\t%s", a.seed, strings.Join(a.trace, "\n\t"))
	}
}
