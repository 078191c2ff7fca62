package outbox_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/postbus/postbus/outbox"
)

// warned publishes in transactions of their own, and returns how often a Box says that nobody forwards.
func (f *fixture) warned(t *testing.T, publish func(*outbox.Box)) int {
	t.Helper()
	var said bytes.Buffer
	box := f.box(outbox.Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
	box.AskAtOnce()
	for range 3 {
		publish(box)
	}
	return strings.Count(said.String(), "no Forwarder runs")
}

func TestNobodyForwards(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		publish := func(box *outbox.Box) { f.commit(t, box, order("a", 1)) }
		if n := f.warned(t, publish); n != 1 {
			t.Errorf("%d warnings without a Forwarder", n)
		}
		f.db.SQL().SetMaxOpenConns(1)
		if n := f.warned(t, publish); n != 0 {
			t.Errorf("%d warnings while the only connection is in use", n)
		}
		f.db.SQL().SetMaxOpenConns(0)
		var r target
		forward(t, outbox.New(f.open(), outbox.Config{Logger: quiet}), &r, outbox.ForwarderConfig{})
		eventually(t, "it forwards", func() bool { return len(r.all()) > 0 })
		if n := f.warned(t, publish); n != 0 {
			t.Errorf("%d warnings beside a Forwarder of another process", n)
		}
	})
}

func TestThisProcessForwards(t *testing.T) {
	onEach(t, func(t *testing.T, f *fixture) {
		var said bytes.Buffer
		box := f.box(outbox.Config{Logger: slog.New(slog.NewTextHandler(&said, nil))})
		box.AskAtOnce()
		var r target
		fw := forward(t, box, &r, outbox.ForwarderConfig{})
		for range 3 {
			f.commit(t, box, order("a", 1))
		}
		stopForwarder(t, fw)
		if strings.Contains(said.String(), "no Forwarder runs") {
			t.Error(said.String())
		}
	})
}
