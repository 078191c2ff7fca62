package saga_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/outbox"
	"github.com/postbus/postbus/saga"
	"github.com/postbus/postbus/store"
)

// unkeyed is an event without a key.
type unkeyed struct{}

func (unkeyed) EventName() string { return "odd.unkeyed" }

func TestDefinitionMistakes(t *testing.T) {
	t.Parallel()
	do := mark("x")
	step := func(s saga.Step[order]) func(*saga.Definition[order]) {
		return func(d *saga.Definition[order]) { d.Steps = append(d.Steps, s) }
	}
	for want, change := range map[string]func(*saga.Definition[order]){
		`saga ""`:                               func(d *saga.Definition[order]) { d.Name = "" },
		"version -1 must be at least 1":         func(d *saga.Definition[order]) { d.Version = -1 },
		"there are no Steps":                    func(d *saga.Definition[order]) { d.Steps = nil },
		`two Starts on "orders.placed"`:         func(d *saga.Definition[order]) { d.Start = begin.Or(begin) },
		`two steps are named "reserve"`:         step(saga.Step[order]{Name: "reserve", Do: do}),
		`step "" must not be empty`:             step(saga.Step[order]{Do: do}),
		"it has none of Do, Await":              step(saga.Step[order]{Name: "x"}),
		"neither Timeout nor MayWaitForever":    step(saga.Step[order]{Name: "x", Await: saga.Replies(saga.Continue(func(*order, captured) error { return nil }))}),
		"both Timeout and MayWaitForever":       step(saga.Step[order]{Name: "x", Do: do, Timeout: 1, MayWaitForever: true}),
		"its Undo can never run":                step(saga.Step[order]{Name: "x", Do: do, Undo: do}),
		"2 steps are a Pivot":                   step(saga.Step[order]{Name: "x", Do: do, Pivot: true}),
		"cannot abort the saga":                 step(saga.Step[order]{Name: "x", Await: payment, Timeout: time.Hour}),
		"has neither a key of its own":          step(saga.Step[order]{Name: "x", Timeout: 1, Await: saga.Replies(saga.Continue(func(*order, unkeyed) error { return nil }))}),
		"no reply continues":                    step(saga.Step[order]{Name: "x", Timeout: 1, Await: saga.Replies(saga.Abort(func(*order, declined) error { return nil }))}),
		"Parallel beside Do":                    step(saga.Step[order]{Name: "x", Do: do, Parallel: []saga.Step[order]{{Name: "y", Do: do}}}),
		"Parallel or Pivot within Parallel":     step(saga.Step[order]{Name: "x", Parallel: []saga.Step[order]{{Name: "y", Do: do, Pivot: true}}}),
		`its child "delivery" version 1 is not`: step(saga.Step[order]{Name: "x", Timeout: 1, Child: saga.StartChild(deliveries(), func(*order) (string, delivery) { return "", delivery{} }, nil)}),
		"Retry must have at least 1 attempt":    step(saga.Step[order]{Name: "x", Do: do, Retry: saga.Retry{Attempts: -1}}),
	} {
		def := simple()
		change(&def)
		b, err := bus.New(bus.Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = saga.New(b, outbox.New(store.Use(nil, store.SQLite), outbox.Config{}), saga.Config{Sagas: []saga.Saga{def}})
		if !errors.Is(err, bus.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
	b, err := bus.New(bus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = saga.New(b, nil, saga.Config{Sagas: []saga.Saga{nil, simple(), simple()}, Workers: -1})
	for _, want := range []string{"a Box with a database", "Sagas[0] is nil", "version 1 is there twice", "Workers -1"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error lacks %q: %v", want, err)
		}
	}
}
