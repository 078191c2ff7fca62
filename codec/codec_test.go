package codec_test

import (
	"testing"

	"github.com/postbus/postbus/codec"
)

func TestJSON(t *testing.T) {
	t.Parallel()
	type event struct {
		Text string         `json:"text"`
		Rest map[string]int `json:"rest,omitempty"`
	}
	if codec.JSON.ContentType() != "application/json" || !codec.JSON.Encodes(event{}) {
		t.Error("JSON does not take every event")
	}
	data, err := codec.JSON.Marshal(event{Text: "a\x00ü"})
	if err != nil || string(data) != `{"text":"a\u0000ü"}` {
		t.Errorf("encoded %s: %v", data, err)
	}
	var got event
	if err := codec.JSON.Unmarshal(data, &got); err != nil || got.Text != "a\x00ü" {
		t.Errorf("decoded %+v: %v", got, err)
	}
	if _, err := codec.JSON.Marshal(make(chan int)); err == nil {
		t.Error("no error for a channel")
	}
	for _, bad := range []string{"", "{", `{"text":1}`, `{} {}`} {
		if err := codec.JSON.Unmarshal([]byte(bad), &got); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
