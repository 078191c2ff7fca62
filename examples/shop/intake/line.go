// Package intake is the edge of the shop: it reads lines and puts them on the bus as they came, readable or not. What
// they mean is for the orders module to find out.
package intake

import "github.com/postbus/postbus/codec"

// LineName is the wire name of Line.
const LineName = "intake.line"

// Line is one line of input. Its text travels as the payload itself, so that one that cannot be decoded is set aside
// byte by byte as it came.
type Line struct {
	text []byte
}

// EventName implements bus.Event.
func (Line) EventName() string { return LineName }

// String returns the text.
func (l Line) String() string { return string(l.text) }

// Codec is codec.JSON for all events but Line, which is payload already. It cannot be left to a MarshalJSON of Line:
// encoding/json refuses to pass on what is not JSON, and finding that out is the business of the receiver.
var Codec codec.Codec = lineCodec{codec.JSON}

type lineCodec struct{ codec.Codec }

func (c lineCodec) Marshal(v any) ([]byte, error) {
	if l, ok := v.(Line); ok {
		return l.text, nil
	}
	return c.Codec.Marshal(v)
}
