package configfx_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/fx"
	"go.uber.org/goleak"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/config/configfx"
	"github.com/postbus/postbus/middleware"
	"github.com/postbus/postbus/store"
	"github.com/postbus/postbus/store/storefx"
	"github.com/postbus/postbus/transport"
	_ "github.com/postbus/postbus/transport/memory"
	_ "github.com/postbus/postbus/transport/sqlite"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

type placed struct{ N int }

func (placed) EventName() string { return "orders.placed" }

type billing struct{ charged chan int }

func (b *billing) charge(ctx context.Context, e placed) error {
	deadline, _ := ctx.Deadline()
	b.charged <- e.N + int(time.Until(deadline).Hours())
	return nil
}

// app is the same program for all transports and stores.
func app(t *testing.T, content string, environ ...string) []fx.Option {
	t.Helper()
	file := filepath.Join(t.TempDir(), "shop.yaml")
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return []fx.Option{
		busfx.Handle("billing", (*billing).charge),
		busfx.Module,
		fx.Provide(func() *billing { return &billing{make(chan int, 1)} }),
		configfx.Load(file, environ),
		fx.NopLogger,
	}
}

func TestTheTransportIsALineOfTheFile(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"memory": "memory:", "sqlite": "sqlite:" + filepath.Join(t.TempDir(), "bus.db")} {
		var events bus.Publisher
		var service *billing
		var tr transport.Transport
		a := fx.New(append(app(t, "transport: '"+url+"'\ngroups: {billing: {timeout: 100h30m}}\n"), fx.Populate(&events, &service, &tr))...)
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(name, err)
		}
		if err := events.Publish(t.Context(), placed{1}); err != nil {
			t.Fatal(name, err)
		}
		if got := <-service.charged; got != 101 {
			t.Errorf("%s: got %d, want 1 and the 100 hours of the group's timeout", name, got)
		}
		if err := a.Stop(t.Context()); err != nil {
			t.Error(name, err)
		}
		if _, err := tr.Subscribe(t.Context(), transport.SubscribeConfig{Topic: "t", Group: "g"}); err == nil {
			t.Errorf("%s: the transport is open after the stop", name)
		}
	}
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	wrong := []fx.Option{
		busfx.Handle("billing", (*billing).charge),
		busfx.Group("billing", bus.GroupConfig{Needs: transport.Capabilities{Durable: true}}),
		busfx.Group("billing", bus.GroupConfig{}),
	}
	for name, tc := range map[string]struct {
		content string
		want    []string
	}{
		"the transport is fine":   {"transport: 'memory:'\nnmae: x\n", []string{"needs what the transport lacks: durable", "nmae: unknown key"}},
		"the transport is wrong":  {"transport: 'kafka:'\n", []string{`unknown scheme "kafka"`}},
		"the transport is closed": {"transport: memory:?nope=1\n", []string{"nope"}},
		"not a configuration":     {"[", []string{"shop.yaml: yaml"}},
		"all of it at once": {"nmae: x\ntransport: 'memory:'\nstore: 'oracle:x'\nstop_timeout: 3\npolicy: {attempts: many}\ngroups: {nobody: {workers: 1}}\n",
			[]string{"nmae: unknown key", `unknown scheme "oracle"`, "stop_timeout: 3 has no unit", `policy.attempts: "many" is not a whole number`,
				`"nobody", which handles nothing`, "needs what the transport lacks: durable"}},
		"a group that no code has": {"groups: {nobody: {workers: 1}}\nstop_timeout: 3\n",
			[]string{`"nobody", which handles nothing`, "stop_timeout: 3 has no unit"}},
	} {
		err := fx.New(append(app(t, tc.content), wrong...)...).Err()
		for _, want := range append(tc.want, `has a handler for "orders.placed"`, "is declared differently") {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: no %q in: %v", name, want, err)
			}
		}
		if strings.Contains(name, "wrong") && strings.Contains(err.Error(), "lacks") {
			t.Errorf("%s: says that what is unknown lacks something: %v", name, err)
		}
	}
}

func TestTheBusIsDecorated(t *testing.T) {
	t.Parallel()
	var b *bus.Bus
	err := fx.New(append(app(t, "name: shop\n"), fx.Populate(&b), fx.Decorate(func(cfg bus.Config) bus.Config {
		cfg.Topic = func(string) string { return "everything" }
		return cfg
	}))...).Err()
	if err != nil {
		t.Fatal(err)
	}
	if d := b.Describe(); d.Name != "shop" || d.Groups[0].Events[0].Topic != "everything" {
		t.Errorf("the bus is %+v", d)
	}
}

// kept is a quarantine.
type kept struct{ messages chan string }

func (k kept) Put(_ context.Context, d *bus.Delivery, _ error) error {
	k.messages <- d.Group
	return nil
}

func TestThePartsOfTheChain(t *testing.T) {
	t.Parallel()
	passed := make(chan string, 10)
	through := func(name string) bus.Middleware {
		return func(next bus.Handler) bus.Handler {
			return func(ctx context.Context, d *bus.Delivery) error { passed <- name; return next(ctx, d) }
		}
	}
	sent := func(next bus.PublishHandler) bus.PublishHandler {
		return func(ctx context.Context, topic string, msgs []transport.Message) error {
			passed <- "published"
			return next(ctx, topic, msgs)
		}
	}
	q := kept{make(chan string, 1)}
	var events bus.Publisher
	a := fx.New(append(app(t, "policy: {attempts: 1}\n"), fx.Populate(&events),
		fx.Provide(
			fx.Annotate(func() bus.Middleware { return through("telemetry") }, fx.ResultTags(`name:"postbus.telemetry"`)),
			fx.Annotate(func() bus.Middleware { return through("dedup") }, fx.ResultTags(`name:"postbus.dedup"`)),
			fx.Annotate(func() bus.PublishMiddleware { return sent }, fx.ResultTags(`name:"postbus.telemetry"`)),
			func() middleware.Quarantine { return q },
		),
		busfx.Wire(func(_ *billing, b *bus.Bus) {
			bus.Handle(b, "broken", func(context.Context, broken) error { return errors.New("no") })
		}),
	)...)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := events.Publish(t.Context(), broken{}); err != nil {
		t.Fatal(err)
	}
	if got := []string{<-passed, <-passed, <-passed, <-q.messages}; !slices.Equal(got, []string{"published", "telemetry", "dedup", "broken"}) {
		t.Errorf("passed %q", got)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

type broken struct{}

func (broken) EventName() string { return "things.broken" }

func TestTheStoreIsOpenedAndClosed(t *testing.T) {
	t.Parallel()
	var db *store.DB
	a := fx.New(append(app(t, "", "POSTBUS_STORE=sqlite:"+filepath.Join(t.TempDir(), "shop.db")), storefx.Module, fx.Populate(&db))...)
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := db.SQL().PingContext(t.Context()); err != nil {
		t.Error(err)
	}
	if err := a.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := db.SQL().PingContext(t.Context()); err == nil {
		t.Error("the database is open after the stop")
	}
	err := fx.New(append(app(t, ""), storefx.Module, fx.Populate(&db))...).Err()
	if err == nil || !strings.Contains(err.Error(), "POSTBUS_STORE") {
		t.Errorf("without a store: %v", err)
	}
}
