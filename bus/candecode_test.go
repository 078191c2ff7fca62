package bus_test

import (
	"context"
	"errors"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

type settled1 struct{ N int }

func (settled1) EventName() string { return "orders.settled" }

type settled2 struct{ N int }

func (settled2) EventName() string { return "orders.settled" }
func (settled2) EventVersion() int { return 2 }

func TestCanDecode(t *testing.T) {
	t.Parallel()
	b := newBus(t, bus.Config{})
	bus.Handle(b, "g", func(context.Context, settled2) error { t.Error("it was handled"); return nil })
	bus.Upcast(b, func(old settled1) (settled2, error) {
		switch old.N {
		case 7:
			return settled2{}, errors.New("sevens cannot be upcast")
		case 8:
			panic("eight")
		}
		return settled2(old), nil
	})
	for name, tc := range map[string]struct {
		group string
		m     transport.Message
		want  error // nil: it can
		fails bool
	}{
		"as it is":       {"g", transport.Message{Version: 2, Payload: []byte(`{"N":1}`)}, nil, false},
		"upcast":         {"g", transport.Message{Payload: []byte(`{"N":1}`)}, nil, false},
		"malformed":      {"g", transport.Message{Version: 2, Payload: []byte(`{"N":`)}, bus.ErrDecode, true},
		"malformed, old": {"g", transport.Message{Payload: []byte(`{"N":"x"}`)}, bus.ErrDecode, true},
		"no upcast":      {"g", transport.Message{Payload: []byte(`{"N":7}`)}, nil, true},
		"upcast panics":  {"g", transport.Message{Payload: []byte(`{"N":8}`)}, bus.ErrDecode, true},
		"other version":  {"g", transport.Message{Version: 3, Payload: []byte(`{"N":1}`)}, bus.ErrVersion, true},
		"other group":    {"h", transport.Message{Version: 2, Payload: []byte(`{"N":1}`)}, bus.ErrInvalid, true},
	} {
		tc.m.ID, tc.m.Name = "m", "orders.settled"
		err := b.CanDecode(tc.group, &tc.m)
		if (err != nil) != tc.fails || tc.want != nil && !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", name, err, tc.want)
		}
	}
}
