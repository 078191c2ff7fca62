// Package codec turns events into payload bytes and back. JSON is the default; codec/protobuf adds Protocol Buffers.
package codec

import "encoding/json"

// Codec encodes and decodes events of one content type. Its methods may be called concurrently.
type Codec interface {
	// ContentType is the MIME type that travels with each message, by which the receiver finds the codec.
	ContentType() string
	// Encodes reports whether Marshal can encode v, judging by its type. A bus uses its first codec that can.
	Encodes(v any) bool
	// Marshal encodes v. It does not keep v, and the caller owns the bytes.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, a non-nil pointer to an event, or an event that is itself a non-nil pointer. It
	// does not keep data.
	Unmarshal(data []byte, v any) error
}

// JSON is the codec for "application/json", by encoding/json. It can encode all events whose fields are.
var JSON Codec = jsonCodec{}

type jsonCodec struct{}

func (jsonCodec) ContentType() string                { return "application/json" }
func (jsonCodec) Encodes(any) bool                   { return true }
func (jsonCodec) Marshal(v any) ([]byte, error)      { return json.Marshal(v) }
func (jsonCodec) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }
