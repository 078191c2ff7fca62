package transporttest

import (
	"context"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postbus/postbus/transport"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// attempt runs one check on a reference transport in a bubble, so that no wait takes real time.
func attempt(t *testing.T, c check, caps transport.Capabilities, fault string, change func(*Config)) (r *recorder) {
	synctest.Test(t, func(t *testing.T) {
		d := newDisk(caps, fault)
		cfg := Config{
			New:   func(testing.TB) Opener { return d.open },
			Crash: func(_ testing.TB, tr transport.Transport) { tr.(*reference).crash() },
		}
		if change != nil {
			change(&cfg)
		}
		r = rehearse(t, func(tb testing.TB) { runCheck(tb, cfg.withDefaults(), c) })
		close(d.ended)
	})
	return r
}

func TestARightTransportPasses(t *testing.T) {
	t.Parallel()
	few := everything
	few.Order = transport.OrderPerKey
	few.MaxPayload, few.Values = 0, false
	for name, test := range map[string]struct {
		caps    transport.Capabilities
		change  func(*Config)
		skipped []string // families of checks that may be skipped
	}{
		"everything": {everything, nil, []string{"publish/unsupported", "subscribe/no replay"}},
		"per key":    {few, nil, []string{"publish/", "subscribe/no replay", "lazy/"}},
		"nothing": {
			transport.Capabilities{}, nil,
			[]string{"publish/too large", "order/", "delay/", "target/", "lazy/", "restart/", "subscribe/start", "settle/exact after restart"},
		},
		"by its own admission": {
			transport.Capabilities{Order: transport.OrderPerTopic},
			func(cfg *Config) {
				cfg.InFlight, cfg.InexactAttempts, cfg.ReleaseCounts, cfg.Ephemeral = 1, true, true, true
			},
			[]string{"publish/too large", "order/", "delay/", "target/", "lazy/", "restart/", "subscribe/", "receive/", "settle/", "close/", "load/"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, c := range checks() {
				r := attempt(t, c, test.caps, "", test.change)
				if r.Failed() {
					t.Errorf("%s: %s", c.name, r.text())
				}
				if r.Skipped() && !slices.ContainsFunc(test.skipped, func(s string) bool { return strings.HasPrefix(c.name, s) }) {
					t.Errorf("%s was skipped: %s", c.name, r.skipped)
				}
			}
		})
	}
}

// TestEachCheckCanFail breaks a transport in one place at a time. The checks of the rule that is broken must fail, and
// each check must have a fault that it finds.
func TestEachCheckCanFail(t *testing.T) {
	t.Parallel()
	byName, found := map[string]check{}, map[string]bool{}
	for _, c := range checks() {
		byName[c.name] = c
	}
	for _, m := range mutants {
		for _, name := range m.finds {
			found[name] = true
		}
		t.Run(m.fault, func(t *testing.T) {
			t.Parallel()
			caps := everything
			if m.caps != nil {
				caps = *m.caps
			}
			for _, name := range m.finds {
				c, ok := byName[name]
				if !ok {
					t.Fatalf("there is no check %q", name)
				}
				r := attempt(t, c, caps, m.fault, nil)
				switch {
				case !r.Failed():
					t.Errorf("%s does not find it (skipped: %q)", name, r.skipped)
				case !strings.Contains(r.text(), c.rule):
					t.Errorf("%s does not say which rule was broken:\n%s", name, r.text())
				}
			}
		})
	}
	for _, c := range checks() {
		if !found[c.name] {
			t.Errorf("no fault shows that %q can fail", c.name)
		}
	}
}

func TestSkipsWhatIsLeftOut(t *testing.T) {
	t.Parallel()
	cfg := Config{
		New:   func(testing.TB) Opener { return newDisk(transport.Capabilities{}, "payload is text").open },
		Quiet: time.Millisecond, Skip: map[string]string{},
	}
	for _, c := range checks() {
		cfg.Skip[c.name] = "not now"
	}
	Run(t, cfg)
}

func TestOpenFails(t *testing.T) {
	t.Parallel()
	r := rehearse(t, func(tb testing.TB) {
		cfg := Config{New: func(testing.TB) Opener {
			return func(context.Context) (transport.Transport, error) { return nil, context.Canceled }
		}}
		runCheck(tb, cfg.withDefaults(), checks()[0])
	})
	if !r.Failed() || !strings.Contains(r.text(), "opening the transport") {
		t.Errorf("a transport that cannot be opened was reported as %q", r.text())
	}
}
