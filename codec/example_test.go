package codec_test

import (
	"fmt"

	"github.com/postbus/postbus/codec"
)

// compact is a codec of one's own: it says what it is called, what it can encode, and how.
type compact struct{}

func (compact) ContentType() string { return "text/x-point" }

func (compact) Encodes(v any) bool {
	_, ok := v.(point)
	return ok
}

func (compact) Marshal(v any) ([]byte, error) {
	p := v.(point)
	return fmt.Appendf(nil, "%d/%d", p.X, p.Y), nil
}

func (compact) Unmarshal(data []byte, v any) error {
	p := v.(*point)
	_, err := fmt.Sscanf(string(data), "%d/%d", &p.X, &p.Y)
	return err
}

type point struct{ X, Y int }

// List the codecs in bus.Config.Codecs: the first that can encode an event does, and the others are JSON.
func ExampleCodec() {
	codecs := []codec.Codec{compact{}, codec.JSON}
	for _, v := range []any{point{1, 2}, "text"} {
		for _, c := range codecs {
			if c.Encodes(v) {
				data, err := c.Marshal(v)
				fmt.Println(c.ContentType(), string(data), err)
				break
			}
		}
	}
	// Output:
	// text/x-point 1/2 <nil>
	// application/json "text" <nil>
}
