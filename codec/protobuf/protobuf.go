// Package protobuf is the codec for events that are Protocol Buffers messages. It stands apart from package codec so
// that a program without such events does not link the runtime.
//
// List it before JSON, and events that are proto.Message travel as Protocol Buffers while all others stay JSON:
//
//	bus.Config{Codecs: []codec.Codec{protobuf.Codec, codec.JSON}}
//
// The pointer to a generated type is an event once it has a name, by a method beside the generated file:
//
//	func (*Weighed) EventName() string { return "stock.weighed" }
//
// A type of another package is embedded, by value, and a handler takes the pointer, too:
//
//	type Weighed struct{ pb.Weight }
//
//	bus.Handle(b, "depot", func(ctx context.Context, e *Weighed) error { … })
//
// Without this codec, such an event travels as what encoding/json makes of its struct.
package protobuf

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/postbus/postbus/codec"
)

// Codec is the codec for "application/x-protobuf", in the binary wire format. Encoding is deterministic.
var Codec codec.Codec = protobufCodec{}

type protobufCodec struct{}

func (protobufCodec) ContentType() string { return "application/x-protobuf" }

func (protobufCodec) Encodes(v any) bool {
	_, ok := v.(proto.Message)
	return ok
}

func (protobufCodec) Marshal(v any) ([]byte, error) {
	m, ok := v.(proto.Message)
	if !ok {
		return nil, fmt.Errorf("protobuf: %T is not a proto.Message", v)
	}
	if !m.ProtoReflect().IsValid() {
		return nil, fmt.Errorf("protobuf: the message in %T is nil", v)
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(m)
}

func (protobufCodec) Unmarshal(data []byte, v any) error {
	m, ok := v.(proto.Message)
	if !ok {
		return fmt.Errorf("protobuf: %T is not a proto.Message", v)
	}
	if !m.ProtoReflect().IsValid() { // an event may embed a pointer to its message, which is nil in a new event
		return fmt.Errorf("protobuf: the message in %T is nil; embed it by value", v)
	}
	return proto.Unmarshal(data, m)
}
