package bustest

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// Option changes what Run does.
type Option func(*Probe)

// Config lets f change the configuration of the bus before it is made: middleware, groups, codecs. In adversarial mode
// f is called for each process that is started, like wire. The transport is a memory transport that f may replace,
// though not in adversarial mode; who replaces it closes it.
//
// The logger writes to the log of the test. Middleware does not know it: f hands it on, as in
//
//	c.Middleware = middleware.Standard(middleware.StandardConfig{Log: middleware.LogConfig{Logger: c.Logger}})
func Config(f func(*bus.Config)) Option {
	return func(p *Probe) { p.configure = append(p.configure, f) }
}

// Probe is a running bus in the hands of a test. Its methods are called by the test's own goroutine, but Messages and
// Bus by any.
type Probe struct {
	t         testing.TB
	wire      func(*bus.Bus)
	configure []func(*bus.Config)
	log       *testLog
	journal   journal
	errors    errorLog
	bubble    bool // of testing/synctest

	memory    *memory.Transport
	watch     *watch     // nil in adversarial mode
	adversary *adversary // nil otherwise

	mu          sync.Mutex
	bus         *bus.Bus
	stopTimeout time.Duration
}

// flow is a transport that is told of handlers.
type flow interface {
	transport.Transport
	// begins is called before the chain of a delivery runs.
	begins(ctx context.Context, d *bus.Delivery)
	// ended is called after it has returned.
	ended(topic, group, id string)
}

// Run starts a bus on which wire declares the handlers, and stops it at the end of the test. The bus runs on a memory
// transport of its own, through the codec. The test fails if Start returns an error, such as a wiring mistake, or Stop
// does, such as a handler that does not end.
//
// In a bubble of testing/synctest, Run is called inside, with the bubble's t: delays and retries then pass at once.
func Run(t testing.TB, wire func(b *bus.Bus), opts ...Option) *Probe {
	t.Helper()
	p := &Probe{t: t, wire: wire, log: &testLog{t: t}, bubble: wait()}
	for _, o := range opts {
		o(p)
	}
	p.log.open = true
	t.Cleanup(p.stop)
	if p.adversary != nil {
		p.adversary.begin()
		return p
	}
	p.memory = memory.New(memory.Config{})
	p.start(p.memory, func(cfg *bus.Config) flow {
		p.watch = newWatch(cfg, &p.journal)
		return p.watch
	})
	return p
}

// start makes a bus on tr, or what the test's options put in its place, and starts it.
func (p *Probe) start(tr transport.Transport, wrap func(*bus.Config) flow) {
	p.t.Helper()
	cfg := bus.Config{Transport: tr, Logger: slog.New(slog.NewTextHandler(p.log, nil))}
	for _, f := range p.configure {
		f(&cfg)
	}
	p.journal.useCodecs(cfg.Codecs)
	if cfg.Transport == nil {
		p.t.Fatal("bustest: an option has set Config.Transport to nil")
	}
	f := wrap(&cfg)
	cfg.Transport = f
	// Slices of the caller's stay as they are.
	middleware := append([]bus.Middleware{p.outermost(f)}, cfg.Middleware...)
	cfg.Middleware = append(middleware, p.innermost)
	b, err := bus.New(cfg)
	if err != nil {
		p.t.Fatalf("bustest: %v", err)
	}
	p.mu.Lock()
	p.bus, p.stopTimeout = b, cfg.StopTimeout
	p.mu.Unlock()
	p.wire(b)
	if err := b.Start(p.t.Context()); err != nil {
		p.t.Fatalf("bustest: Start: %v", err)
	}
}

// outermost tells the flow of handlers.
func (p *Probe) outermost(f flow) bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error {
			topic, group, id := d.Topic, d.Group, d.Message().ID
			f.begins(ctx, d)
			err := next(ctx, d)
			f.ended(topic, group, id) // not deferred: after runtime.Goexit the delivery passes the chain again
			return err
		}
	}
}

// innermost remembers what handlers return, of which the rest of the chain may not let anything through.
func (p *Probe) innermost(next bus.Handler) bus.Handler {
	return func(ctx context.Context, d *bus.Delivery) error {
		err := next(ctx, d)
		if err != nil {
			p.errors.note(d.Group, d.Message().ID, err)
		}
		return err
	}
}

func (p *Probe) stop() {
	p.mu.Lock()
	b, limit := p.bus, p.stopTimeout
	p.mu.Unlock()
	if b == nil {
		return
	}
	if limit <= 0 {
		limit = bus.DefaultStopTimeout
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := b.Stop(ctx); err != nil {
		p.t.Errorf("bustest: Stop: %v", err)
	}
	if p.adversary != nil {
		p.adversary.report()
	} else if err := p.memory.Close(); err != nil {
		p.t.Errorf("bustest: %v", err)
	}
	p.log.close()
}

// Bus returns the bus; in adversarial mode it is another one after each crash.
func (p *Probe) Bus() *bus.Bus {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bus
}

// Publish publishes events on the bus. The test fails if that fails; a test that expects an error uses Bus.
func (p *Probe) Publish(events ...bus.Event) {
	p.t.Helper()
	if err := p.Bus().Publish(p.t.Context(), events...); err != nil {
		p.t.Fatalf("bustest: %v", err)
	}
}

// Messages returns what was published through the bus, by the test or by handlers, in order and in its envelopes. A
// message whose ID was published before is left out, such as one that a retry policy has published again for later.
func (p *Probe) Messages() []Message { return p.journal.list() }

func (p *Probe) fail(err error) {
	p.t.Helper()
	p.t.Fatal(err)
}
