package protobuf_test

import (
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/postbus/postbus/codec/protobuf"
)

// byValue and byPointer are messages with methods of their own, as events are.
type (
	byValue   struct{ wrapperspb.StringValue }
	byPointer struct{ *wrapperspb.StringValue }
)

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	fields, err := structpb.NewStruct(map[string]any{"b": 1.5, "a": []any{"x", nil, true}, "c": "z"})
	if err != nil {
		t.Fatal(err)
	}
	first, err := protobuf.Codec.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 { // maps are encoded in one order
		if again, err := protobuf.Codec.Marshal(fields); err != nil || string(again) != string(first) {
			t.Fatalf("encoding is not deterministic: %q, then %q (%v)", first, again, err)
		}
	}
	var got structpb.Struct
	if err := protobuf.Codec.Unmarshal(first, &got); err != nil || !proto.Equal(&got, fields) {
		t.Errorf("decoded %v (%v), want %v", &got, err, fields)
	}
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	e := &byValue{}
	e.Value = "hello"
	data, err := protobuf.Codec.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	got := &byValue{}
	if err := protobuf.Codec.Unmarshal(data, got); err != nil || got.GetValue() != "hello" {
		t.Errorf("decoded %q: %v", got.GetValue(), err)
	}
}

func TestWhatItRefuses(t *testing.T) {
	t.Parallel()
	for name, v := range map[string]any{
		"nil":               nil,
		"no message":        "text",
		"a nil message":     (*wrapperspb.StringValue)(nil),
		"an embedded nil":   byPointer{},
		"a pointer to that": &byPointer{},
		"a number":          7,
	} {
		if _, err := protobuf.Codec.Marshal(v); err == nil {
			t.Errorf("%s: Marshal has no error", name)
		}
		if err := protobuf.Codec.Unmarshal([]byte("\x0a\x01x"), v); err == nil {
			t.Errorf("%s: Unmarshal has no error", name)
		}
	}
	if protobuf.Codec.Encodes("text") || protobuf.Codec.Encodes(nil) || !protobuf.Codec.Encodes(&byValue{}) {
		t.Error("Encodes")
	}
	if err := protobuf.Codec.Unmarshal([]byte("\xff"), &wrapperspb.StringValue{}); err == nil {
		t.Error("no error for bad bytes")
	}
}
