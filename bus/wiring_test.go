package bus_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/codec"
	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

// here returns the place of the caller's line, moved by some lines.
func here(offset int) string {
	_, file, line, _ := runtime.Caller(1)
	return fmt.Sprintf("%s:%d: ", filepath.Base(file), line+offset)
}

type (
	otherName  struct{}
	notTheZero struct{ name *string }
)

func (otherName) EventName() string    { return "orders.other" }
func (n notTheZero) EventName() string { return *n.name }

func handlePaid(context.Context, paid) error { return nil }

// handleTwice is generic, as helpers of a program may be.
func handleTwice[E bus.Event](b *bus.Bus, group string) string {
	bus.Handle(b, group, func(context.Context, E) error { return nil })
	bus.Handle(b, group, func(context.Context, E) error { return nil })
	return here(-1)
}

func TestStartReportsAllMistakesWithTheirPlaces(t *testing.T) {
	t.Parallel()
	cfg := bus.Config{
		Logger:    quiet,
		Transport: &broker{},
		Groups: map[string]bus.GroupConfig{
			"g":      {Needs: transport.Capabilities{Durable: true, Order: transport.OrderPerKey}},
			"idle":   {},
			"replay": {Start: transport.StartAt(time.Now())},
		},
		Topic: func(name string) string { return strings.TrimPrefix(bus.TopicOf(name), "parcels") },
	}
	b, err := bus.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	made := here(-4)
	var want [][]string
	mistake := func(parts ...string) { want = append(want, parts) }

	bus.Handle(b, "g", handlePaid)
	first := here(-1)
	bus.Handle(b, "g", handlePaid)
	mistake(here(-1), `"orders.paid" version 1 already`, strings.TrimSuffix(first, ": "))
	bus.Handle(b, "bad\x00group", handlePaid)
	mistake(here(-1), "group", "control characters")
	bus.Handle[paid](b, "g", nil)
	mistake(here(-1), "function is nil")
	bus.Handle(b, "g", func(context.Context, bus.Event) error { return nil })
	mistake(here(-1), "interface")
	bus.Handle(b, "g", func(context.Context, badName) error { return nil })
	mistake(here(-1), "must not be empty")
	bus.Handle(b, "g", func(context.Context, badVer) error { return nil })
	mistake(here(-1), "version 0")
	bus.Handle(b, "g", func(context.Context, notTheZero) error { return nil })
	mistake(here(-1), "cannot tell its name", "notTheZero")
	bus.Handle(b, "replay", func(context.Context, shipped) error { return nil })
	topicless := here(-1)
	mistake(handleTwice[otherName](b, "g"), `"orders.other" version 1 already`)
	bus.Upcast(b, upcast12)
	bus.Upcast(b, upcast12)
	mistake(here(-1), `upcast from "goods.priced" version 1 already`)
	bus.Upcast(b, func(priced3) (priced1, error) { return priced1{}, nil })
	mistake(here(-1), "must grow")
	bus.Upcast(b, func(priced3) (paid, error) { return paid{}, nil })
	mistake(here(-1), "names must be equal")
	bus.Upcast[priced1, priced2](b, nil)
	mistake(here(-1), "function is nil")
	mistake(made, `group "g" needs`, "durable")
	mistake(made, `group "g" needs`, "order per key")
	mistake(made, `group "idle", which handles nothing`)
	mistake(made, `group "replay"`, "lacks replay")
	mistake(topicless, "parcels.shipped", "topic", "must not be empty")

	err = b.Start(t.Context())
	if !errors.Is(err, bus.ErrInvalid) {
		t.Fatalf("Start: %v", err)
	}
	lines := strings.Split(err.Error(), "\n")[1:]
	if len(lines) != len(want) {
		t.Errorf("%d mistakes, want %d", len(lines), len(want))
	}
	for i, parts := range want { // in the order of the calls, then of the groups' names
		line := lines[min(i, len(lines)-1)]
		if !containsAll(line, parts) {
			at := "nowhere"
			for n, other := range lines {
				if containsAll(other, parts) {
					at = fmt.Sprint("at ", n)
				}
			}
			t.Errorf("mistake %d: %s\n\twant %q, which is %s", i, line, parts, at)
		}
	}
	if again := b.Start(t.Context()); again == nil || again.Error() != err.Error() {
		t.Errorf("second Start: %v", again)
	}
}

func containsAll(s string, parts []string) bool {
	for _, part := range parts {
		if !strings.Contains(s, part) {
			return false
		}
	}
	return true
}

func TestStartWithoutTransport(t *testing.T) {
	t.Parallel()
	b, err := bus.New(bus.Config{})
	if err != nil {
		t.Fatal(err)
	}
	made := here(-4)
	bus.Handle(b, "g", handlePaid)
	expectError(t, b.Start(t.Context()), made, "Config.Transport is missing")
}

func TestHandleAfterStart(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	startOnly(t, b)
	bus.Handle(b, "g", handlePaid)
	late := here(-1)
	bus.Upcast(b, upcast12)
	later := here(-1)
	err := b.Stop(t.Context())
	expectError(t, err, late, later, "after Start")
	if !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("%v does not match ErrInvalid", err)
	}
}

func TestNewReportsAllMistakes(t *testing.T) {
	t.Parallel()
	_, err := bus.New(bus.Config{
		StopTimeout: -1,
		Middleware:  []bus.Middleware{nil},
		Codecs:      []codec.Codec{nil, codec.JSON, codec.JSON},
		Groups: map[string]bus.GroupConfig{
			"":  {},
			"a": {Workers: -1, Prefetch: -2},
			"b": {MinBackoff: time.Second, MaxBackoff: time.Millisecond},
			"c": {Delivery: 7},
			"d": {Middleware: []bus.Middleware{nil}},
		},
	})
	if !errors.Is(err, bus.ErrInvalid) {
		t.Errorf("New: %v", err)
	}
	expectError(t, err, "StopTimeout -1ns", "Middleware[0] is nil", "Codecs[0] is nil", "Codecs[2]", "group \"\"", "Workers -1",
		"Prefetch -2", "1s to 1ms", "Delivery 7", `group "d": Middleware[0]`)
}

// TestConfigIsCopied: what the caller does to its maps and slices afterwards has no effect.
func TestConfigIsCopied(t *testing.T) {
	t.Parallel()
	var s spy
	cfg := bus.Config{
		Logger: quiet, Transport: &broker{},
		Middleware: []bus.Middleware{s.middleware},
		Groups:     group("g", bus.GroupConfig{Middleware: []bus.Middleware{s.middleware}}),
		Codecs:     []codec.Codec{codec.JSON},
	}
	b := newBus(t, cfg)
	cfg.Middleware[0], cfg.Groups["g"].Middleware[0], cfg.Codecs[0] = nil, nil, nil
	cfg.Groups["other"] = bus.GroupConfig{}
	bus.Handle(b, "g", handlePaid)
	start(t, b)
	publish(t, b, paid{1})
}

// What middleware does when it is set up is found out by Start, and not by a crash at the first delivery.
func TestMiddlewareThatMakesNoHandler(t *testing.T) {
	t.Parallel()
	for want, broken := range map[string]bus.Middleware{
		"GroupConfig.Middleware[0] returned no handler": func(bus.Handler) bus.Handler { return nil },
		"GroupConfig.Middleware[0] panicked: no":        func(bus.Handler) bus.Handler { panic("no") },
	} {
		tr := memory.New(memory.Config{})
		b, err := bus.New(bus.Config{
			Transport: tr, Groups: map[string]bus.GroupConfig{"g": {Middleware: []bus.Middleware{broken}}},
		})
		if err != nil {
			t.Fatal(err)
		}
		bus.Handle(b, "g", func(context.Context, placed) error { return nil })
		if err := b.Start(t.Context()); !errors.Is(err, bus.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("Start said %v, want %q", err, want)
		}
		if err := errors.Join(b.Stop(t.Context()), tr.Close()); err != nil {
			t.Error(err)
		}
	}
}
