package memory_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/postbus/postbus/transport"
	"github.com/postbus/postbus/transport/memory"
)

func TestOpen(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]transport.Capabilities{
		"memory:":            {},
		"memory:?":           {},
		"memory://":          {},
		"MEMORY:?share=true": {Values: true},
		"memory:?share=1&capacity=5&max_payload=1000": {Values: true, MaxPayload: 1000},
	} {
		want.Order, want.Delay, want.Target = transport.OrderPerTopic, true, true
		tr, err := transport.Open(t.Context(), url)
		if err != nil {
			t.Errorf("%s: %v", url, err)
			continue
		}
		if got := tr.Capabilities(); got != want {
			t.Errorf("%s has %+v, want %+v", url, got, want)
		}
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"memory:?shared=true":                 `unknown parameter "shared"; known: capacity, max_payload, share`,
		"memory:?share=maybe":                 `parameter share="maybe" must be true or false`,
		"memory:?share=true&share=false":      `parameter share is given 2 times`,
		"memory:?capacity=0":                  `parameter capacity="0" must be a whole number of at least 1`,
		"memory:?capacity=many&max_payload=x": `max_payload="x"`,
		"memory:share=true":                   `"memory:?share=true"`,
		"memory://shop":                       `only parameters may follow the scheme`,
		"memory:/shop":                        `only parameters may follow the scheme`,
		"memory:?capacity=%zz":                `query`,
	} {
		tr, err := transport.Open(t.Context(), url)
		if err == nil {
			t.Errorf("%s was opened: %+v", url, tr.Capabilities())
			_ = tr.Close()
			continue
		}
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q does not say %q", url, err, want)
		}
	}
}

func TestZeroAndNegativeConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []memory.Config{{}, {Capacity: -1, MaxPayload: -1}} {
		tr := open(t, cfg)
		join(t, tr, "billing")
		publish(t, tr, batch("m", memory.DefaultCapacity-1)...)
		publish(t, tr, batch("m", 1)...) // the queue is full now, and Publish did not wait
		if limit := tr.Capabilities().MaxPayload; limit != 0 {
			t.Errorf("MaxPayload is %d", limit)
		}
	}
}

func TestErrorsOfClosedSubscriptions(t *testing.T) {
	t.Parallel()
	tr := open(t, memory.Config{})
	sub := join(t, tr, "billing")
	if err := sub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := sub.Settle(t.Context(), nil); !errors.Is(err, transport.ErrClosed) {
		t.Errorf("Settle of a closed subscription returned %v", err)
	}
}
