package outbox_test

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/postbus/postbus/outbox"
)

// watched returns a Box that asks at once who forwards, and tells how often it has said that nobody does.
func (f *fixture) watched() (box *outbox.Box, said func() int) {
	f.t.Helper()
	var log lockedBuilder
	box = f.box(outbox.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	box.AskAtOnce()
	return box, func() int { return strings.Count(log.String(), "no Forwarder runs") }
}

// warned publishes a few times, and returns how often a Box says that nobody forwards.
func (f *fixture) warned(t *testing.T) int {
	t.Helper()
	box, said := f.watched()
	for range 4 {
		f.commit(t, box, order("a", 1))
	}
	return said()
}

func TestNobodyForwards(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box, said := f.watched()
		eventually(t, "a warning", func() bool {
			f.commit(t, box, order("a", 1))
			return said() > 0
		})
		for range 4 {
			f.commit(t, box, order("a", 1))
		}
		if n := said(); n != 1 {
			t.Errorf("%d warnings without a Forwarder", n)
		}
		f.db.SQL().SetMaxOpenConns(1)
		if n := f.warned(t); n != 0 {
			t.Errorf("%d warnings while the only connection is in use", n)
		}
		f.db.SQL().SetMaxOpenConns(0)
		var r target
		forward(t, outbox.New(f.open(), outbox.Config{Logger: quiet}), &r, outbox.ForwarderConfig{Lease: patience})
		eventually(t, "it forwards", func() bool { return len(r.all()) > 0 })
		if n := f.warned(t); n != 0 {
			t.Errorf("%d warnings beside a Forwarder of another process", n)
		}
	})
}

func TestThisProcessForwards(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		box, said := f.watched()
		var r target
		fw := forward(t, box, &r, outbox.ForwarderConfig{})
		for range 4 {
			f.commit(t, box, order("a", 1))
		}
		stopForwarder(t, fw)
		if n := said(); n != 0 {
			t.Errorf("%d warnings", n)
		}
	})
}
