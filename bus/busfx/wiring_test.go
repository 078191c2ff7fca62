package busfx_test

import (
	"context"
	"errors"
	"log/slog"
	"reflect"
	"testing"
	"time"

	"go.uber.org/fx"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/bus/busfx"
	"github.com/postbus/postbus/transport"
)

func TestTheApplicationIsValid(t *testing.T) {
	t.Parallel()
	if err := fx.ValidateApp(parts(&journal{})...); err != nil {
		t.Error(err)
	}
}

func TestAServiceThatNobodyProvides(t *testing.T) {
	t.Parallel()
	err := fx.ValidateApp(busfx.Module, busfx.Handle("billing", (*billing).charge), fx.NopLogger)
	expectError(t, err, "missing type", "*busfx_test.billing")
}

func TestAllMistakesAtOnceWithTheirPlaces(t *testing.T) {
	t.Parallel()
	j := &journal{}
	first := here(1)
	one := busfx.Group("billing", bus.GroupConfig{Workers: 1})
	two := busfx.Group("billing", bus.GroupConfig{Workers: 2})
	again := busfx.Handle("billing", (*billing).charge)
	null := busfx.Handle[*billing, paid]("billing", nil)
	places := []string{first[:len(first)-2], here(-3), here(-3), here(-3)}
	app := fx.New(append(parts(j), one, two, again, null,
		busfx.Group("ledger", bus.GroupConfig{Needs: transport.Capabilities{Durable: true}}),
		fx.Supply(bus.Config{StopTimeout: -1, Groups: map[string]bus.GroupConfig{"nobody": {}}}),
		fx.Provide(func() busfx.Mistake { return busfx.Mistake{Err: errors.New("transport: no such scheme")} }),
	)...)
	expectError(t, app.Err(), places...)
	expectError(t, app.Err(), `"billing" is declared differently`, `"billing" has a handler for "orders.placed" version 1 already`,
		"the function is nil", `group "ledger" needs what the transport lacks: durable`, `"nobody", which handles nothing`,
		"transport: no such scheme")
	for _, line := range j.all() {
		t.Errorf("%q in spite of mistakes", line)
	}
}

func TestGroupsAreConfiguredFromOutside(t *testing.T) {
	t.Parallel()
	pass := func(next bus.Handler) bus.Handler { return next }
	declared := bus.GroupConfig{Workers: 1, KeepOrder: true, MinBackoff: time.Second, Middleware: []bus.Middleware{pass},
		Needs: transport.Capabilities{Delay: true}}
	outside := bus.GroupConfig{Workers: 5, Middleware: []bus.Middleware{pass}, Needs: transport.Capabilities{Target: true}}
	var b *bus.Bus
	app := fx.New(append(parts(&journal{}), busfx.Group("billing", declared),
		fx.Supply(bus.Config{Groups: map[string]bus.GroupConfig{"billing": outside}}), fx.Populate(&b))...)
	if err := app.Err(); err != nil {
		t.Fatal(err)
	}
	got := b.Describe().Groups[0].Config
	if got.Workers != 5 || !got.KeepOrder || got.MinBackoff != time.Second || len(got.Middleware) != 2 ||
		!got.Needs.Delay || !got.Needs.Target {
		t.Errorf("the group has %+v", got)
	}
	if outside.Needs.Delay || len(outside.Middleware) != 1 {
		t.Error("the configuration of the application was changed")
	}
}

func TestEveryCapabilityIsNeededByTheWholeThatAPartNeeds(t *testing.T) {
	t.Parallel()
	for i := range reflect.TypeFor[transport.Capabilities]().NumField() {
		var needs transport.Capabilities
		switch f := reflect.ValueOf(&needs).Elem().Field(i); f.Kind() {
		case reflect.Bool:
			f.SetBool(true)
		case reflect.Int:
			f.SetInt(1 << 40)
		default:
			f.SetUint(2)
		}
		var b *bus.Bus
		fx.New(append([]fx.Option{fx.Module("first", fx.Populate(&b))}, append(parts(&journal{}),
			busfx.Group("billing", bus.GroupConfig{Needs: needs}),
			fx.Supply(bus.Config{Groups: map[string]bus.GroupConfig{"billing": {Workers: 1}}}))...)...)
		if got := b.Describe().Groups[0].Config.Needs; got != needs {
			t.Errorf("the group needs %+v, want %+v", got, needs)
		}
	}
}

type (
	oldPaid struct{}
	logging struct{ journal *journal }
)

func (oldPaid) EventName() string { return "orders.settled" }

type newPaid struct{}

func (newPaid) EventName() string { return "orders.settled" }
func (newPaid) EventVersion() int { return 2 }

func (l logging) wire(b *bus.Bus) {
	bus.Handle(b, "audit", func(context.Context, newPaid) error { l.journal.add("settled"); return nil })
}

func TestMiddlewareUpcastAndWire(t *testing.T) {
	t.Parallel()
	j := &journal{}
	named := func(name string) func(*journal) bus.Middleware {
		return func(j *journal) bus.Middleware { return mark(j, name) }
	}
	var events bus.Publisher
	app := start(t,
		busfx.Middleware(5, named("inner")),
		busfx.Middleware(-2, named("outermost")),
		busfx.Wire(logging.wire),
		busfx.Middleware(-1, func(j *journal) (bus.Middleware, error) { return mark(j, "outer"), nil }),
		busfx.Upcast(func(oldPaid) (newPaid, error) { return newPaid{}, nil }),
		fx.Provide(func(j *journal) logging { return logging{j} }),
		fx.Supply(bus.Config{Middleware: []bus.Middleware{mark(j, "configured")}}, slog.New(slog.DiscardHandler)),
		fx.Options(parts(j)[0], parts(j)[3]), fx.Supply(j), fx.NopLogger, fx.Populate(&events),
	)
	if err := events.Publish(t.Context(), oldPaid{}); err != nil {
		t.Fatal(err)
	}
	j.await(t, "settled")
	stop(t, app)
	j.inOrder(t, "outermost", "outer", "configured", "inner", "settled")
}

func mark(j *journal, name string) bus.Middleware {
	return func(next bus.Handler) bus.Handler {
		return func(ctx context.Context, d *bus.Delivery) error { j.add("%s", name); return next(ctx, d) }
	}
}
