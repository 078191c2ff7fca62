// Package transporttest holds the suite that every driver of package transport must pass.
//
// Each check is of one rule of the contract, which stands in the comments of package transport; a failure says which
// rule was broken. What a transport cannot do, by its Capabilities, is skipped. The example of [Run] is the test of a driver.
//
// The suite waits for what must come with a deadline, and for what must not come with a short quiet window; it never
// relies on the speed of a transport.
package transporttest

import (
	"context"
	"testing"
	"time"

	"github.com/postbus/postbus/transport"
)

// Opener opens a transport on data that all calls share.
type Opener func(ctx context.Context) (transport.Transport, error)

// Config says how to get at the transport under test, and what it is known not to do.
type Config struct {
	// New prepares a place for data and returns what opens transports on it; it is called once for each check. The
	// suite closes what it opens. A transport with Capabilities.Durable is opened again on the same data, also while
	// the first one is open, as processes that share a server would do; others are opened once. Required.
	//
	// Topics and groups have names of their own in each check, so that all places may be one server.
	New func(t testing.TB) Opener

	// Crash ends a transport as the death of its process would: connections break, nothing is given back. If nil, the
	// check that attempts are counted across a crash is skipped.
	Crash func(t testing.TB, crashed transport.Transport)

	// InexactAttempts says that the transport cannot count attempts: on a redelivery it reports 2 or more.
	InexactAttempts bool
	// ReleaseCounts says that the transport cannot tell Release from Requeue: both count as an attempt.
	ReleaseCounts bool
	// Ephemeral says that a group, and what it has not settled, ends with its last subscription.
	Ephemeral bool
	// InFlight is how many deliveries a subscription can have unsettled at once, where that is less than its Prefetch.
	// Default: no such limit.
	InFlight int

	// Timeout bounds each wait for what must come. Default: a minute.
	Timeout time.Duration
	// Quiet is how long the suite waits for what must not come. A transport that polls needs more than one of its
	// pauses. Default: 100 ms.
	Quiet time.Duration
	// Delay is how far in the future delayed messages are due. Default: 1 s.
	Delay time.Duration
	// Clock is how much the transport's clock may differ from this one, or be coarser. Default: 50 ms.
	Clock time.Duration

	// Parallel is how many checks run at once, at most; the -parallel flag of go test limits them too. Default: 4.
	Parallel int
	// Skip names checks to be left out, such as "message/payload", each with the reason.
	Skip map[string]string
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{
		{&c.Timeout, time.Minute}, {&c.Quiet, 100 * time.Millisecond}, {&c.Delay, time.Second},
		{&c.Clock, 50 * time.Millisecond},
	} {
		if *d.field <= 0 {
			*d.field = d.value
		}
	}
	if c.Parallel <= 0 {
		c.Parallel = 4
	}
	return c
}

// Run runs all checks, each as a parallel subtest with the name of its rule.
func Run(t *testing.T, cfg Config) {
	t.Helper()
	if cfg.New == nil {
		t.Fatal("transporttest: Config.New is required")
	}
	cfg = cfg.withDefaults()
	all := checks()
	known := map[string]bool{}
	for _, c := range all {
		known[c.name] = true
	}
	for name := range cfg.Skip {
		if !known[name] {
			t.Errorf("transporttest: Config.Skip names %q, but there is no such check", name)
		}
	}
	running := make(chan struct{}, cfg.Parallel)
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if reason, skip := cfg.Skip[c.name]; skip {
				t.Skipf("left out: %s", reason)
			}
			running <- struct{}{}
			defer func() { <-running }()
			runCheck(t, cfg, c)
		})
	}
}

// check is of one rule.
type check struct {
	name string // family/rule
	rule string // as the comments of package transport state it
	run  func(h *harness)
}

func runCheck(t testing.TB, cfg Config, c check) {
	t.Helper()
	h := &harness{TB: t, cfg: cfg, rule: c.rule, labels: map[string]string{}}
	h.opener = cfg.New(t)
	h.tr = h.open()
	h.caps = h.tr.Capabilities()
	c.run(h)
}

// checks lists all checks, family by family.
func checks() (all []check) {
	for _, family := range [][]check{
		publishChecks, messageChecks, subscribeChecks, receiveChecks, settleChecks, orderChecks, timingChecks,
		nameChecks, lazyChecks, closeChecks, loadChecks, restartChecks,
	} {
		all = append(all, family...)
	}
	return all
}
