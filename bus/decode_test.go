package bus_test

import (
	"errors"
	"testing"

	"github.com/postbus/postbus/bus"
	"github.com/postbus/postbus/transport"
)

func TestDecodeForMiddleware(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		m    transport.Message
		want string // the order; empty if it cannot be decoded
	}{
		"by its bytes":  {transport.Message{ID: "1", Name: "orders.placed", Payload: []byte(`{"order":"o-1"}`)}, "o-1"},
		"by reference":  {transport.Message{ID: "1", Name: "orders.placed", Value: placed{Order: "o-1"}}, "o-1"},
		"another event": {transport.Message{ID: "1", Name: "orders.paid", Payload: []byte(`{"order":"o-1"}`)}, ""},
		"a version":     {transport.Message{ID: "1", Name: "orders.placed", Version: 2, Payload: []byte(`{"order":"o-1"}`)}, ""},
		"cut off":       {transport.Message{ID: "1", Name: "orders.placed", Payload: []byte(`{"order`)}, ""},
	} {
		e, err := bus.Decode[placed](bus.NewDelivery(&tc.m, "orders", "g", 1))
		if e.Order != tc.want || (tc.want == "") != errors.Is(err, bus.ErrDecode) || err != nil && !bus.IsPermanent(err) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}
