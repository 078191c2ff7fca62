package saga_test

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/mysql"
	"github.com/postbus/postbus/transport/postgres"
	"github.com/postbus/postbus/transport/sqlite"
)

// program is a process: a bus on a transport in the database, and an orchestrator.
type program struct {
	*saga.Orchestrator
	t   testing.TB
	bus *bus.Bus
	tr  transport.Transport
}

// start starts a program, with a database handle of its own, and stops it at the end.
func (f *fixture) start(cfg saga.Config, wire func(b *bus.Bus, box *outbox.Box), chain ...bus.Middleware) *program {
	f.t.Helper()
	p, stop := f.startStoppable(cfg, wire, chain...)
	f.t.Cleanup(stop)
	return p
}

func (f *fixture) startStoppable(cfg saga.Config, wire func(b *bus.Bus, box *outbox.Box), chain ...bus.Middleware) (*program, func()) {
	f.t.Helper()
	t, db := f.t, f.open()
	tr, err := openTransport(t.Context(), f.dialect, db)
	if err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	b, err := bus.New(bus.Config{Transport: tr, Logger: logger, Middleware: chain})
	if err != nil {
		t.Fatal(err)
	}
	box := outbox.New(db, outbox.Config{Transport: tr, Logger: logger})
	if cfg.PollInterval == 0 {
		cfg.PollInterval = 20 * time.Millisecond
	}
	cfg.Logger = logger
	o, err := saga.New(b, box, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if wire != nil {
		wire(b, box)
	}
	if err := errors.Join(o.Start(t.Context()), b.Start(t.Context())); err != nil {
		t.Fatal(err)
	}
	p := &program{o, t, b, tr}
	return p, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := p.stop(ctx); err != nil {
			t.Error(err)
		}
	}
}

func (p *program) stop(ctx context.Context) error {
	return errors.Join(p.bus.Stop(ctx), p.Stop(ctx), p.tr.Close())
}

// openTransport opens the transport of a database.
func openTransport(ctx context.Context, d store.Dialect, db *store.DB) (transport.Transport, error) {
	const often = 20 * time.Millisecond
	switch d {
	case store.Postgres:
		return postgres.New(ctx, db, postgres.Config{PollInterval: often})
	case store.MySQL:
		return mysql.New(ctx, db, mysql.Config{PollInterval: often})
	}
	return sqlite.New(ctx, db, sqlite.Config{PollInterval: often})
}

func (p *program) publish(events ...bus.Event) {
	p.t.Helper()
	if err := p.bus.Publish(p.t.Context(), events...); err != nil {
		p.t.Fatal(err)
	}
}

// until waits until an instance has a status, and returns it.
func (p *program) until(name, key string, status saga.Status) saga.Instance {
	p.t.Helper()
	return p.untilStep(name, key, status, "")
}

// untilStep is until, for one that stands at a step.
func (p *program) untilStep(name, key string, status saga.Status, step string) saga.Instance {
	p.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		i, err := p.Get(p.t.Context(), name, key)
		if err == nil && i.Status == status && (step == "" || i.Step == step) {
			return i
		}
		if err != nil && !errors.Is(err, saga.ErrNotFound) {
			p.t.Fatal(err)
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("%s %q is %q at %q (%s), and not %q: %v\n%s", name, key, i.Status, i.Step, i.Error, status, err, p.story(name, key))
		}
	}
}

// story returns the journal of an instance as words.
func (p *program) story(name, key string) string {
	p.t.Helper()
	entries, err := p.Journal(p.t.Context(), name, key)
	if err != nil {
		p.t.Fatal(err)
	}
	var words []string
	for _, e := range entries {
		words = append(words, strings.Trim(string(e.Kind)+":"+e.Step, ":"))
	}
	return strings.Join(words, " ")
}

func (p *program) eventually(what string, ok func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("no %s after %v", what, patience)
		}
	}
}
